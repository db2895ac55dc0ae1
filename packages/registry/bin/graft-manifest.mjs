#!/usr/bin/env node
import { writeManifest } from '@graft/registry/manifest';

const [folder, ...sources] = process.argv.slice(2);
if (folder === undefined || folder.startsWith('-')) {
  const usage =
    'usage: graft-manifest PACKAGE [FOLDER...]\n\nWrites PACKAGE/src/manifest.ts: the classes in FOLDERs of sources (default: PACKAGE/src), for drift contracts.\n';
  const isHelp = folder === '--help' || folder === '-h';
  (isHelp ? process.stdout : process.stderr).write(usage);
  process.exitCode = isHelp ? 0 : 2;
} else {
  try {
    await writeManifest(folder, sources);
  } catch (error) {
    process.stderr.write(`${error instanceof Error ? error.message : error}\n`);
    process.exitCode = 2;
  }
}
