import { existsSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { basename, dirname, join, resolve } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { expectValid, meantNames, messageOf, quotedList } from '@graft/common';
import { moduleResolve } from 'import-meta-resolve';
import * as z from 'zod';
import { AppNotFoundError, PackageInvalidError, PluginNotFoundError } from './plugin-errors.ts';

// Plugins are read as this module is: from sources under vitest and tsx, from dist elsewhere. Two forms of one module would be two sets of tokens.
export const conditions = new Set([
  ...(import.meta.url.endsWith('.ts') ? ['@graft/source'] : []),
  'node',
  'import',
  'module-sync',
  'default',
]);

const packageSchema = z.looseObject({
  type: z.unknown().optional(),
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

/** @throws AppNotFoundError. */
export function requireApp(directory: string): void {
  const path = resolve(directory);
  if (!existsSync(path)) throw new AppNotFoundError(path, inFolder(path));
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
  if (isPath) return pathFix(specifier, resolve(base, specifier));
  const meant = packageFile === null ? [] : meantNames(specifier, packagesAt(packageFile, specifier));
  if (meant.length > 0) return `write ${quotedList(meant)}.`;
  return 'install the package there, or correct its name; it needs an `exports` entry that Node can resolve (a `default` condition).';
}

/** ` (in that folder: "norms.ts")`: the files that a misspelt path may have meant. */
export function inFolder(path: string): string {
  const files = existsSync(dirname(path)) ? readdirSync(dirname(path)) : [];
  const withoutExtension = files.filter((file) => file.replace(/\.\w+$/, '') === basename(path));
  const meant = withoutExtension.length > 0 ? withoutExtension : meantNames(basename(path), files);
  return meant.length === 0 ? '' : ` (in that folder: ${quotedList(meant)})`;
}

function pathFix(specifier: string, path: string): string {
  if (!statSync(path, { throwIfNoEntry: false })?.isDirectory()) return `correct the path${inFolder(path)}.`;
  const files = readdirSync(path).filter((file) => /\.[mc]?[jt]s$/.test(file));
  const [file = 'FILE'] = [...files.filter((one) => /^(?:index|plugin)\./.test(one)), ...files];
  return `write "${specifier.replace(/\/$/, '')}/${file}": a path names a file, not its folder.`;
}

/** The packages that an application depends on, and those installed in the scope of `specifier`. */
function packagesAt(packageFile: string, specifier: string): string[] {
  const { dependencies, devDependencies, optionalDependencies } = readPackage(packageFile);
  const scope = /^@[^/]+/.exec(specifier)?.[0] ?? '';
  const folder = join(dirname(packageFile), 'node_modules', scope);
  const installed = existsSync(folder) ? readdirSync(folder).map((name) => (scope === '' ? name : `${scope}/${name}`)) : [];
  return [...Object.keys({ ...dependencies, ...devDependencies, ...optionalDependencies }), ...installed];
}

/** The peers of a module's package that are packages of Graft, each as words and its range. */
export function graftPeers(module: string | null): [who: string, range: string][] {
  const file = module === null ? null : findPackageFile(dirname(fileURLToPath(module)));
  const { peerDependencies = {} } = file === null ? {} : readPackage(file);
  return Object.entries(peerDependencies).flatMap(([name, range]) =>
    name.startsWith('@graft/') ? [[`Its package.json lists the peer ${name} ${range}: it`, range]] : [],
  );
}

export function readPackage(file: string): Package {
  try {
    const value: unknown = JSON.parse(readFileSync(file, 'utf8'));
    const misspelt = Object.entries(value ?? {}).find(
      ([key, other]) => key !== 'graft' && meantNames(key, ['graft']).length > 0 && Object.hasOwn(Object(other), 'plugins'),
    );
    if (misspelt !== undefined) throw new PackageInvalidError(file, `its key "${misspelt[0]}" is near "graft", which Graft reads`);
    return expectValid(packageSchema, value, 'the file', (problem) => new PackageInvalidError(file, problem));
  } catch (error) {
    throw error instanceof SyntaxError ? new PackageInvalidError(file, error.message, 'correct the JSON there.') : error;
  }
}
