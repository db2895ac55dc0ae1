import { join } from 'node:path';
import { expect, test } from 'vitest';
import { packageManifest } from '../packages/registry/src/package-manifest.ts';
import { readText, root } from './sources.ts';

test('the manifest of the upstream classes is that of their sources: `npm run manifest` writes it again', async () => {
  const { scripts } = JSON.parse(readText('package.json')) as { scripts: Record<string, string> };
  const [folder, ...folders] = scripts['manifest']!.split('graft-manifest.mjs ')[1]!
    .split(' ')
    .map((path) => join(root, path));
  expect(readText('packages/core-model/src/manifest.ts')).toBe(await packageManifest(folder!, folders));
});
