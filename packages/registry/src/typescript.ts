import { existsSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { moduleResolve } from 'import-meta-resolve';
import { findPackageFile } from './discover.ts';
import { TypeScriptNotReadError } from './plugin-errors.ts';

let isReady = import.meta.url.endsWith('.ts'); // whatever runs this source reads a plugin's too

export const isTypeScript = (file: string): boolean => /\.[mc]?tsx?$/.test(file);

/** Whether Node itself reads TypeScript, without tsx: it then removes the types and changes nothing else. */
export const stripsTypes = (): boolean => !isReady;

/**
 * Makes Node read TypeScript where `file` is such: through the tsx of the plugin's own project, or else as Node itself does from 22.18 on.
 * @throws TypeScriptNotReadError.
 */
export async function readyFor(file: string): Promise<void> {
  if (isReady || !isTypeScript(file)) return;
  let tsx: string;
  try {
    tsx = moduleResolve('tsx/esm/api', new URL(file)).href;
  } catch {
    if ((process.features as { typescript?: unknown }).typescript) return;
    throw new TypeScriptNotReadError(file);
  }
  const { register } = (await import(/* @vite-ignore */ tsx)) as { register(options: { tsconfig: string | false }): void };
  const folder = dirname(findPackageFile(fileURLToPath(new URL('.', file))) ?? fileURLToPath(file));
  const tsconfig = join(folder, 'tsconfig.json');
  register({ tsconfig: existsSync(tsconfig) ? tsconfig : false });
  isReady = true;
}
