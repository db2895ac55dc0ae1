import { messageOf } from '@graft/common';
import { CheckpointCorruptError, corrupt } from './errors.ts';

const deepest = 64;
const utf8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/**
 * Parses a JSON object, and refuses two equal names, of which `JSON.parse` takes the last.
 * An object's own `__proto__` is an ordinary name; read it with `Object.hasOwn` or `Object.entries`.
 * @param what the subject of an error: `The file`, `The header`.
 * @throws CheckpointCorruptError
 */
export function parseJsonObject(bytes: Uint8Array, what: string, path: string): Record<string, unknown> {
  let value: unknown;
  try {
    const text = utf8.decode(bytes);
    value = JSON.parse(text);
    refuseDuplicateNames(text);
  } catch (cause) {
    throw new CheckpointCorruptError(`${what} is not valid JSON: ${messageOf(cause)}.`, path, { cause });
  }
  if (isObject(value)) return value;
  throw corrupt({ path }, `${what} is not a JSON object.`);
}

export function isObject(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

/** @param text valid JSON. Only its strings and brackets matter. */
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
      if (open.at(-1)!.has(name)) throw new Error(`the name ${JSON.stringify(name)} occurs twice`);
      open.at(-1)!.add(name);
    }
    nameNext = found === '{' || (found === ',' && open.at(-1) !== null);
  }
}
