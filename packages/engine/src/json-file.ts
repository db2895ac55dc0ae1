import { readFile, stat } from 'node:fs/promises';
import { describeIssue, messageOf } from '@graft/common';
import type { z } from 'zod';

type Refuse = (what: string, where: string) => Error;

/** Reads a JSON file by its schema; null if it does not exist. @throws the error of `refuse` for a file that cannot be read, is not JSON or does not fit. */
export async function readJsonFile<Output>(file: string, schema: z.ZodType<Output>, refuse: Refuse): Promise<Output | null> {
  const text = await readIfThere(file, refuse);
  if (text === null) return null;
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw refuse(`The file is not JSON: ${messageOf(error)}.`, file);
  }
  return parseAs(schema, value, file, refuse);
}

/** The largest tokenizer.json that was published has 33 MB. Parsing takes ten times a file's size of memory. */
const mostBytes = 64 * 2 ** 20;

/** The text of a file; null if it does not exist. @throws the error of `refuse` for a file that cannot be read or is larger than 64 MiB. */
export async function readIfThere(file: string, refuse: Refuse): Promise<string | null> {
  try {
    const { size } = await stat(file);
    if (size <= mostBytes) return await readFile(file, 'utf8');
    throw new RangeError(`it has ${size} bytes, and at most ${mostBytes} are taken`);
  } catch (error) {
    if (['ENOENT', 'ENOTDIR'].includes((error as NodeJS.ErrnoException).code ?? '')) return null;
    throw refuse(`The file cannot be read: ${messageOf(error)}.`, file);
  }
}

/** @throws the error of `refuse` for the first problem and its place. */
export function parseAs<Output>(schema: z.ZodType<Output>, value: unknown, where: string, refuse: Refuse): Output {
  return parseWith(schema, value, (what, key) => refuse(what, key === '' ? where : `${where}, key "${key}"`));
}

/** Parses a value by its schema. @throws the error of `refuse` for the first problem: its description, key and, if known, fix. */
export function parseWith<Output>(
  schema: z.ZodType<Output>,
  value: unknown,
  refuse: (what: string, key: string, fix: string | undefined) => Error,
): Output {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const { what, where, fix } = describeIssue(result.error, schema);
  throw refuse(what, where, fix);
}
