import { messageOf } from '@graft/common';

const deepest = 64;

/**
 * Parses JSON from a file that may lie: `JSON.parse` lets the last of two equal names win, and this refuses them.
 * An object's own `__proto__` is an ordinary name; read it with `Object.hasOwn` or `Object.entries`.
 * @throws Error with a message that a caller puts into its own error.
 */
export function parseStrictJson(bytes: Uint8Array): unknown {
  const text = decodeUtf8(bytes);
  const value: unknown = JSON.parse(text);
  refuseDuplicateNames(text);
  return value;
}

export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function decodeUtf8(bytes: Uint8Array): string {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch (cause) {
    throw new Error(`the text is not UTF-8 (${messageOf(cause)})`, { cause });
  }
}

/** Walks text that is known to be valid JSON; only strings and brackets matter. */
function refuseDuplicateNames(text: string): void {
  const open: (Set<string> | null)[] = []; // names of each open object; null for an array
  let nameNext = false;
  for (let i = 0; i < text.length; i++) {
    const character = text[i];
    if (character === '"') {
      const end = endOfString(text, i);
      if (nameNext) addName(open.at(-1)!, JSON.parse(text.slice(i, end)) as string);
      nameNext = false;
      i = end - 1;
    } else if (character === '{' || character === '[') {
      open.push(character === '{' ? new Set() : null);
      if (open.length > deepest) throw new Error(`nested more than ${deepest} deep`);
      nameNext = character === '{';
    } else if (character === '}' || character === ']') {
      open.pop();
    } else if (character === ',') {
      nameNext = open.at(-1) !== null;
    }
  }
}

function addName(names: Set<string> | null, name: string): void {
  if (names?.has(name)) throw new Error(`the name ${JSON.stringify(name)} stands twice`);
  names?.add(name);
}

/** The index after the closing quote of the string that starts at `start`. */
function endOfString(text: string, start: number): number {
  let i = start + 1;
  while (text[i] !== '"') i += text[i] === '\\' ? 2 : 1;
  return i + 1;
}
