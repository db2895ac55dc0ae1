import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { buildManifest, renderManifest } from './build-manifest.ts';

/** The text of a package's src/manifest.ts. @param folders of the sources: every `.ts` below them but tests and fixtures. */
export function packageManifest(folder: string, folders: readonly string[]): string {
  const facts = JSON.parse(readFileSync(join(folder, 'package.json'), 'utf8')) as { name: string; version: string };
  const paths = folders.flatMap((at) => readdirSync(at, { recursive: true }).map((file) => join(at, String(file))));
  const sources = paths.filter((path) => path.endsWith('.ts') && !/\.(test|test-d|fixture|d)\.ts$/.test(path)).sort();
  return renderManifest(
    buildManifest(
      facts,
      sources.map((path) => ({ path, text: readFileSync(path, 'utf8') })),
    ),
  );
}
