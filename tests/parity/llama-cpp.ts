import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { z } from 'zod';

/** What measure-llama-cpp.ts measured, by the hash of a case's GGUF. */
export const llamaCppFile = fileURLToPath(new URL('./llama-cpp.json', import.meta.url));
const LlamaCppFile = z.record(z.string(), z.strictObject({ case: z.string(), meanChange: z.number() }));

export const readLlamaCpp = (): z.output<typeof LlamaCppFile> =>
  existsSync(llamaCppFile) ? LlamaCppFile.parse(JSON.parse(readFileSync(llamaCppFile, 'utf8'))) : {};

/** SHA-256 of the folder's GGUF files, in the order of their names. */
export function ggufHash(folder: string): string {
  const hash = createHash('sha256');
  const files = readdirSync(folder).filter((name) => name.endsWith('.gguf'));
  for (const name of files.sort()) hash.update(readFileSync(join(folder, name)));
  return hash.digest('hex');
}

/** llama.cpp's mean change of the log-probability on the same file; null where it was not measured. */
export const llamaCppChange = (folder: string): number | null => readLlamaCpp()[ggufHash(folder)]?.meanChange ?? null;
