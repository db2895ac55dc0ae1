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
  for (const [found] of text.matchAll(/"[^"\\]*(?:\\.[^"\\]*)*"|[{}[\],]/g)) {
    if (found === '{' || found === '[') {
      open.push(found === '{' ? new Set() : null);
      if (open.length > deepest) throw new Error(`nested more than ${deepest} deep`);
    } else if (found === '}' || found === ']') open.pop();
    else if (found !== ',' && nameNext) {
      const name = JSON.parse(found) as string;
      if (open.at(-1)!.has(name)) throw new Error(`the name ${JSON.stringify(name)} stands twice`);
      open.at(-1)!.add(name);
    }
    nameNext = found === '{' || (found === ',' && open.at(-1) !== null);
  }
}
