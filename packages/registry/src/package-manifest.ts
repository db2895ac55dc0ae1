import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join, relative, resolve, sep } from 'node:path';
import { pathToFileURL } from 'node:url';
import { GraftError, graftError, messageOf } from '@graft/common';
import type { SourceText } from './build-manifest.ts';
import { findPackageFile } from './discover.ts';
import { loadManifest, type UpstreamManifest } from './manifest.ts';

/** A version of an upstream package in a folder. */
export interface UpstreamVersion {
  readonly manifest: UpstreamManifest;
  /** `manifest`: the built one of the package, because TypeScript or the sources are absent. */
  readonly readFrom: 'sources' | 'manifest';
}

/**
 * Writes a package's `src/manifest.ts`.
 * @param folders of the sources, and of the bases that these classes inherit from. Default: the package's `src`.
 * @throws TypeScriptMissingError, UpstreamUnreadableError
 */
export async function writeManifest(folder: string, folders: readonly string[] = []): Promise<void> {
  const text = await packageManifest(folder, folders);
  writeFileSync(join(folder, 'src', 'manifest.ts'), text);
}

/** The text of a package's `src/manifest.ts`. */
export async function packageManifest(folder: string, folders: readonly string[] = []): Promise<string> {
  const { buildManifest, renderManifest } = await compilerPart(`graft-manifest ${folder}`);
  const sources = (folders.length === 0 ? [join(folder, 'src')] : folders).flatMap(sourcesBelow);
  return renderManifest(buildManifest(packageFacts(folder), sources));
}

/**
 * Reads another version of an upstream package, offline. Where it has sources and TypeScript is installed, the manifest is built from them: a copy whose
 * sources were changed has a stale manifest. Otherwise its `dist/manifest.js` is imported.
 * @throws UpstreamUnreadableError, ManifestInvalidError
 */
export async function readUpstream(folder: string): Promise<UpstreamVersion> {
  const facts = packageFacts(folder);
  const sources = existsSync(join(folder, 'src')) ? sourcesBelow(join(folder, 'src')) : [];
  const built = join(folder, 'dist', 'manifest.js');
  const compiler = await compilerPart(folder).catch((error: unknown) => {
    if (existsSync(built)) return null;
    throw error;
  });
  if (compiler !== null && sources.length > 0) return { manifest: compiler.buildManifest(facts, sources, 'first'), readFrom: 'sources' };
  if (!existsSync(built)) throw new UpstreamUnreadableError(folder, 'it has neither src/**/*.ts nor dist/manifest.js');
  const module = (await import(/* @vite-ignore */ pathToFileURL(built).href)) as { manifest: UpstreamManifest };
  return { manifest: (await loadManifest(async () => module.manifest, built))!, readFrom: 'manifest' };
}

async function compilerPart(where: string): Promise<typeof import('./build-manifest.ts')> {
  try {
    return await import('./build-manifest.ts');
  } catch (cause) {
    if ((cause as { code?: string }).code === 'ERR_MODULE_NOT_FOUND' && messageOf(cause).includes("'typescript'"))
      throw new TypeScriptMissingError(where, cause);
    throw cause;
  }
}

function packageFacts(folder: string): { name: string; version: string } {
  const file = join(folder, 'package.json');
  try {
    const { name, version } = JSON.parse(readFileSync(file, 'utf8')) as { name?: unknown; version?: unknown };
    if (typeof name === 'string' && typeof version === 'string') return { name, version };
  } catch (cause) {
    throw new UpstreamUnreadableError(folder, `package.json cannot be read: ${messageOf(cause)}`, cause);
  }
  throw new UpstreamUnreadableError(folder, 'package.json has no name or no version');
}

/** Every `.ts` but tests and fixtures. A path begins with the name of the package that has the file. */
function sourcesBelow(folder: string): SourceText[] {
  const root = dirname(findPackageFile(folder) ?? '/package.json');
  const { name } = packageFacts(root);
  try {
    const files = readdirSync(folder, { recursive: true }).map((file) => resolve(folder, String(file)));
    const isSource = (file: string): boolean => file.endsWith('.ts') && !/\.(test|test-d|fixture|d)\.ts$|[\\/]manifest\.ts$/.test(file);
    const pathOf = (file: string): string => [name, ...relative(root, file).split(sep)].join('/');
    return files
      .filter(isSource)
      .sort()
      .map((file) => ({ path: pathOf(file), text: readFileSync(file, 'utf8') }));
  } catch (cause) {
    throw GraftError.is(cause) ? cause : new UpstreamUnreadableError(folder, messageOf(cause), cause);
  }
}

export class TypeScriptMissingError extends graftError('GRAFT_TYPESCRIPT_MISSING', (where: string, cause: unknown) => ({
  what: 'The TypeScript compiler, which reads the sources of upstream classes, is not installed.',
  where,
  fix: 'run `npm install --save-dev typescript`, then the command again.',
  cause,
})) {}

export class UpstreamUnreadableError extends graftError(
  'GRAFT_UPSTREAM_UNREADABLE',
  (folder: string, problem: string, cause?: unknown) => ({
    what: `The classes of an upstream package cannot be read: ${problem}.`,
    where: folder,
    fix: 'name the folder of a package (with package.json and src, or with dist/manifest.js), or the .tgz that npm pack wrote of one.',
    cause,
  }),
) {}
