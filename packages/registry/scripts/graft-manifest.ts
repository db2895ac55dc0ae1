// Writes the manifest of an upstream package's classes to its src/manifest.ts. Folders are those of the classes that it describes, with the bases
// that these inherit from.
//   node --import ./scripts/tsx.mjs packages/registry/scripts/graft-manifest.ts PACKAGE FOLDER...
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { packageManifest } from './package-manifest.ts';

const [folder, ...sources] = process.argv.slice(2);
if (folder === undefined || sources.length === 0) {
  process.stderr.write('usage: graft-manifest PACKAGE FOLDER...\n');
  process.exitCode = 2;
} else {
  writeFileSync(join(folder, 'src', 'manifest.ts'), packageManifest(folder, sources));
}
