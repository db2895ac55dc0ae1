import { createHash, type Hash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, realpathSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** The packages whose code decides what a graph is: they capture, export, or are what is captured. Of the engine, what calls the model. */
const packages: readonly [name: string, folder: string][] = [
  ['@graft/graph', ''],
  ['@graft/core-model', ''],
  ['@graft/cpu', ''],
  ['@graft/onnxruntime', ''],
  ['@graft/engine', 'runner'],
];

let known: string | null = null;

/** A hash of the files of Graft's packages, sources and built ones, whichever are here. Read once a process. Hex. */
export function codeOfGraft(): string {
  if (known === null) {
    const hash = createHash('sha256');
    for (const [name, folder] of [['', ''] as const, ...packages]) {
      const root = name === '' ? ownRoot() : rootOf(name);
      for (const form of ['src', 'dist']) addFolder(hash, join(root, form, folder));
    }
    known = hash.digest('hex');
  }
  return known;
}

/** The folder of this package. */
function ownRoot(): string {
  let folder = dirname(fileURLToPath(import.meta.url));
  while (!existsSync(join(folder, 'package.json'))) folder = dirname(folder);
  return folder;
}

/** The folder of a package that this one depends on; it need not be built. */
function rootOf(name: string): string {
  const places = createRequire(import.meta.url).resolve.paths(name) ?? [];
  const place = places.find((each) => existsSync(join(each, name, 'package.json')));
  return realpathSync(join(place ?? '', name));
}

function addFolder(hash: Hash, folder: string): void {
  if (!existsSync(folder)) return;
  for (const entry of readdirSync(folder, { withFileTypes: true }).sort((a, b) => (a.name < b.name ? -1 : 1))) {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) addFolder(hash, path);
    else if (/\.[jt]s$/.test(entry.name) && !/\.(?:test|fixture|d)\.ts$/.test(entry.name))
      hash.update(`${entry.name}\0`).update(readFileSync(path));
  }
}
