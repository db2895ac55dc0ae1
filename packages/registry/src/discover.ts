import { existsSync, readFileSync, realpathSync, statSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { messageOf } from '@graft/common';
import * as z from 'zod';
import { expectValid } from './issues.ts';
import { PackageInvalidError, PluginNotFoundError } from './plugin-errors.ts';

// Plugins are read as this module is: from sources under vitest and tsx, from dist elsewhere. Two forms of one module would be two sets of tokens.
const conditions = new Set([...(import.meta.url.endsWith('.ts') ? ['@graft/source'] : []), 'node', 'import', 'module-sync', 'default']);

const packageSchema = z.looseObject({
  name: z.string().optional(),
  exports: z.unknown().optional(),
  dependencies: z.record(z.string(), z.unknown()).optional(),
  devDependencies: z.record(z.string(), z.unknown()).optional(),
  optionalDependencies: z.record(z.string(), z.unknown()).optional(),
  graft: z.looseObject({ plugins: z.array(z.string().min(1)).optional() }).optional(),
});
type Package = z.output<typeof packageSchema>;

/** The nearest package.json at or above `directory`. */
export function findPackageFile(directory: string): string | null {
  for (let current = resolve(directory); ; current = dirname(current)) {
    const file = join(current, 'package.json');
    if (existsSync(file)) return file;
    if (dirname(current) === current) return null;
  }
}

/**
 * The plugins that the application at `directory` lists, as `graft.plugins` in its package.json; null where it lists none.
 * @throws PackageInvalidError.
 */
export function listedPlugins(directory: string): string[] | null {
  const file = findPackageFile(directory);
  const listed = file === null ? undefined : readPackage(file).graft?.plugins;
  return listed === undefined || listed.length === 0 ? null : listed;
}

/**
 * The file URL of a plugin's module. A file URL stays as it is; a path is relative to the nearest package.json (or to `directory`); a package
 * name is looked up from there as Node would.
 * @throws PluginNotFoundError.
 */
export function resolveSpecifier(specifier: string, directory: string): string {
  const packageFile = findPackageFile(directory);
  const base = packageFile === null ? resolve(directory) : dirname(packageFile);
  const isPath = /^(?:\.{1,2}(?:\/|$)|\/)/.test(specifier);
  const path = specifier.startsWith('file:')
    ? fileURLToPath(specifier)
    : isPath
      ? resolve(base, specifier)
      : findInPackages(specifier, base);
  if (!existsSync(path) || !statSync(path).isFile()) throw new PluginNotFoundError(specifier, base, `${path} is not a file.`);
  return pathToFileURL(realpathSync(path)).href;
}

function findInPackages(specifier: string, base: string): string {
  const [, name, subpath = ''] = /^((?:@[^/]+\/)?[^/]+)(\/.*)?$/.exec(specifier) ?? [];
  const directory = name === undefined ? null : packageDirectory(name, base);
  if (directory !== null) {
    const target = exportTarget(readPackage(join(directory, 'package.json')).exports, `.${subpath}`);
    if (target !== null) return join(directory, target);
  }
  try {
    return createRequire(join(base, 'package.json')).resolve(specifier);
  } catch (error) {
    throw new PluginNotFoundError(specifier, base, messageOf(error).split('\n', 1)[0]!, dependenciesOf(join(base, 'package.json')));
  }
}

function dependenciesOf(packageFile: string): string[] {
  if (!existsSync(packageFile)) return [];
  const { dependencies, devDependencies, optionalDependencies } = readPackage(packageFile);
  return Object.keys({ ...dependencies, ...devDependencies, ...optionalDependencies });
}

/** The directory of a package as seen from `base`: itself, or in a node_modules where Node looks. */
function packageDirectory(name: string, base: string): string | null {
  const own = join(base, 'package.json');
  if (existsSync(own) && readPackage(own).name === name) return base;
  const folders = createRequire(own).resolve.paths(name) ?? [];
  return folders.map((folder) => join(folder, name)).find((folder) => existsSync(join(folder, 'package.json'))) ?? null;
}

/** The target of `exports` for a subpath, under our conditions; patterns are left to Node. */
function exportTarget(exports: unknown, subpath: string): string | null {
  if (typeof exports === 'string') return subpath === '.' ? exports : null;
  for (const [key, value] of Object.entries(exports ?? {})) {
    const inner = key === subpath ? '.' : conditions.has(key) ? subpath : null;
    const found = inner === null ? null : exportTarget(value, inner);
    if (found !== null) return found;
  }
  return null;
}

function readPackage(file: string): Package {
  try {
    const value: unknown = JSON.parse(readFileSync(file, 'utf8'));
    return expectValid(packageSchema, value, 'the file', (problem) => new PackageInvalidError(file, problem));
  } catch (error) {
    throw error instanceof SyntaxError ? new PackageInvalidError(file, error.message) : error;
  }
}
