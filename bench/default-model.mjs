// The model that a bench runs where none is named: the one that the server downloaded.
import { existsSync, readdirSync } from 'node:fs';
import { homedir } from 'node:os';
import { dirname, join } from 'node:path';

/** Graft's folder in the user's cache. */
export const cacheFolder = join(process.env.XDG_CACHE_HOME || join(homedir(), '.cache'), 'graft');

/** Path of a cached GGUF. Throws, saying what to do, where there is none yet. */
export function defaultModel() {
  const folder = join(cacheFolder, 'models');
  const file = existsSync(folder) ? readdirSync(folder).find((name) => name.endsWith('.gguf')) : undefined;
  if (file === undefined) throw new Error('there is no model in the cache yet: run `npm start` once, or give one with --model FILE.gguf.');
  return join(folder, file);
}

/** What every bench served it as, so that figures stay comparable; another model is what its file says. */
export function readAs(model) {
  return dirname(model) === join(cacheFolder, 'models') ? { architecture: 'Llama4ForCausalLM' } : {};
}
