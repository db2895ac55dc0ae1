import { createHash, type Hash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, realpathSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join, sep } from 'node:path';
import { fileURLToPath } from 'node:url';

const known = new Map<string, string>();

/**
 * A hash, in hex, of the code of a module's package and its dependencies: the name and version of an installed package, the source and built files of a linked
 * one (of a workspace). Computed once for each package.
 */
export function packageCode(moduleUrl: string): string {
  let root = dirname(fileURLToPath(moduleUrl));
  while (!existsSync(join(root, 'package.json'))) root = dirname(root);
  const hash = createHash('sha256');
  if (!known.has(root)) addPackage(hash, realpathSync(root), new Set());
  const code = known.get(root) ?? hash.digest('hex');
  known.set(root, code);
  return code;
}

function addPackage(hash: Hash, root: string, seen: Set<string>): void {
  if (seen.has(root)) return;
  seen.add(root);
  const manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as Manifest;
  hash.update(`${manifest.name}@${manifest.version}\0`);
  if (!root.includes(`${sep}node_modules${sep}`)) for (const form of ['src', 'dist']) addFolder(hash, join(root, form));
  const places = createRequire(join(root, 'package.json'));
  for (const name of Object.keys(manifest.dependencies ?? {}).sort()) {
    const folder = places.resolve.paths(name)?.find((each) => existsSync(join(each, name, 'package.json')));
    if (folder !== undefined) addPackage(hash, realpathSync(join(folder, name)), seen);
  }
}

interface Manifest {
  name?: string;
  version?: string;
  dependencies?: Record<string, string>;
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
