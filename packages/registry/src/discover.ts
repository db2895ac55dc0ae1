import { existsSync, readFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { expectValid, messageOf } from '@graft/common';
import { moduleResolve } from 'import-meta-resolve';
import * as z from 'zod';
import { PackageInvalidError, PluginNotFoundError } from './plugin-errors.ts';

// Plugins are read as this module is: from sources under vitest and tsx, from dist elsewhere. Two forms of one module would be two sets of tokens.
const conditions = new Set([...(import.meta.url.endsWith('.ts') ? ['@graft/source'] : []), 'node', 'import', 'module-sync', 'default']);

const packageSchema = z.looseObject({
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
 * name is resolved from there as Node would.
 * @throws PluginNotFoundError.
 */
export function resolveSpecifier(specifier: string, directory: string): string {
  const packageFile = findPackageFile(directory);
  const base = packageFile === null ? resolve(directory) : dirname(packageFile);
  const isPath = /^(?:\.{1,2}(?:\/|$)|\/)/.test(specifier);
  const wanted = isPath ? pathToFileURL(resolve(base, specifier)).href : specifier;
  try {
    return moduleResolve(wanted, pathToFileURL(join(base, 'package.json')), conditions).href;
  } catch (error) {
    const reason = messageOf(error).split('\n', 1)[0]!;
    throw new PluginNotFoundError(specifier, base, reason, isPath || packageFile === null ? [] : dependenciesOf(packageFile));
  }
}

function dependenciesOf(packageFile: string): string[] {
  const { dependencies, devDependencies, optionalDependencies } = readPackage(packageFile);
  return Object.keys({ ...dependencies, ...devDependencies, ...optionalDependencies });
}

function readPackage(file: string): Package {
  try {
    const value: unknown = JSON.parse(readFileSync(file, 'utf8'));
    return expectValid(packageSchema, value, 'the file', (problem) => new PackageInvalidError(file, problem));
  } catch (error) {
    throw error instanceof SyntaxError ? new PackageInvalidError(file, error.message) : error;
  }
}
