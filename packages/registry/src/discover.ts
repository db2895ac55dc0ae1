import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { expectValid, meantNames, messageOf, nearestNames, quotedList } from '@graft/common';
import { moduleResolve } from 'import-meta-resolve';
import * as z from 'zod';
import { PackageInvalidError, PluginNotFoundError } from './plugin-errors.ts';

// Plugins are read as this module is: from sources under vitest and tsx, from dist elsewhere. Two forms of one module would be two sets of tokens.
const conditions = new Set([...(import.meta.url.endsWith('.ts') ? ['@graft/source'] : []), 'node', 'import', 'module-sync', 'default']);

const packageSchema = z.looseObject({
  dependencies: z.record(z.string(), z.unknown()).optional(),
  peerDependencies: z.record(z.string(), z.string()).optional(),
  devDependencies: z.record(z.string(), z.unknown()).optional(),
  optionalDependencies: z.record(z.string(), z.unknown()).optional(),
  graft: z.strictObject({ plugins: z.array(z.string().min(1)).optional() }).optional(),
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
    throw new PluginNotFoundError(specifier, base, reason, notFoundFix(specifier, base, isPath, packageFile));
  }
}

function notFoundFix(specifier: string, base: string, isPath: boolean, packageFile: string | null): string {
  if (!isPath && existsSync(join(base, specifier))) return `write "./${specifier}": a name without "./" is a package.`;
  if (isPath) return `correct the path${inFolder(resolve(base, specifier))}.`;
  const meant = packageFile === null ? [] : meantNames(specifier, dependenciesOf(packageFile));
  if (meant.length > 0) return `write ${quotedList(meant)}.`;
  return 'install the package there, or correct its name; it needs an `exports` entry that Node can resolve (a `default` condition).';
}

/** The correction of an import that Node could not link, in a module; undefined where the module itself failed. */
export async function importFix(cause: unknown, module: string): Promise<string | undefined> {
  const { code, message = '' } = cause as { code?: unknown; message?: string };
  const [, missing] = /Cannot find package '([^']+)'/.exec(message) ?? [];
  if (missing !== undefined) return `install "${missing}", or correct its name.`;
  const [, path] = /Cannot find module '([^']+)'/.exec(message) ?? [];
  if (path !== undefined && code === 'ERR_MODULE_NOT_FOUND')
    return `correct the import${inFolder(resolve(dirname(fileURLToPath(module)), path))}.`;
  if (code === 'ERR_PACKAGE_PATH_NOT_EXPORTED') return 'import from the package itself, or from a path that its `exports` has.';
  const [, from, name] = /The requested module '([^']+)' does not provide an export named '([^']+)'/.exec(message) ?? [];
  if (from === undefined || name === undefined) return undefined;
  const found = await import(/* @vite-ignore */ moduleResolve(from, new URL(module), conditions).href).then(Object.keys, () => []);
  return `import ${quotedList(nearestNames(name, found, 1), 'a name that it has')} from ${from}.`;
}

/** ` (in that folder: "norms.ts")`: the files that a misspelt path may have meant. */
function inFolder(path: string): string {
  const files = existsSync(dirname(path)) ? readdirSync(dirname(path)) : [];
  const withoutExtension = files.filter((file) => file.replace(/\.\w+$/, '') === basename(path));
  const meant = withoutExtension.length > 0 ? withoutExtension : meantNames(basename(path), files);
  return meant.length === 0 ? '' : ` (in that folder: ${quotedList(meant)})`;
}

function dependenciesOf(packageFile: string): string[] {
  const { dependencies, devDependencies, optionalDependencies } = readPackage(packageFile);
  return Object.keys({ ...dependencies, ...devDependencies, ...optionalDependencies });
}

/** The peers of a module's package that are packages of Graft, each as words and its range. */
export function graftPeers(module: string | null): [who: string, range: string][] {
  const file = module === null ? null : findPackageFile(dirname(fileURLToPath(module)));
  const { peerDependencies = {} } = file === null ? {} : readPackage(file);
  return Object.entries(peerDependencies).flatMap(([name, range]) =>
    name.startsWith('@graft/') ? [[`Its package.json lists the peer ${name} ${range}: it`, range]] : [],
  );
}

function readPackage(file: string): Package {
  try {
    const value: unknown = JSON.parse(readFileSync(file, 'utf8'));
    const misspelt = Object.entries(value ?? {}).find(
      ([key, other]) => key !== 'graft' && meantNames(key, ['graft']).length > 0 && Object.hasOwn(Object(other), 'plugins'),
    );
    if (misspelt !== undefined) throw new PackageInvalidError(file, `its key "${misspelt[0]}" is near "graft", which Graft reads`);
    return expectValid(packageSchema, value, 'the file', (problem) => new PackageInvalidError(file, problem));
  } catch (error) {
    throw error instanceof SyntaxError ? new PackageInvalidError(file, error.message) : error;
  }
}
