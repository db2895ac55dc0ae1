import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect, onTestFinished, test } from 'vitest';

const model = fileURLToPath(new URL('./parity/cases/dense-tiny', import.meta.url));
const root = fileURLToPath(new URL('..', import.meta.url));
const engine = new URL('../packages/engine/dist/index.js', import.meta.url).href;

// The engine as a server starts it: in a worker of plain Node, on the built files.
const script = (platform: string) => `import { startEngineWorker } from '${engine}';
const config = { model: ${JSON.stringify(model)}, app: ${JSON.stringify(root)}, platform: '${platform}', threads: 1, maxSequences: 1, prefillTokens: 16 };
const engine = await startEngineWorker(config);
for await (const _ of engine.generate({ prompt: { tokenIds: [1, 2, 3] }, sampling: { maxTokens: 2 } }));
await engine.close();`;

test.each(['cpu', 'hpu'])('a run on %s leaves nothing behind but the cache of Graft', (platform) => {
  const home = mkdtempSync(join(tmpdir(), 'graft-home-'));
  onTestFinished(() => rmSync(home, { recursive: true }));
  mkdirSync(join(home, 'tmp'));
  const { XDG_CACHE_HOME: _, ...env } = process.env;
  const { status, stderr } = spawnSync(process.execPath, ['--input-type=module', '--eval', script(platform)], {
    encoding: 'utf8',
    env: { ...env, HOME: home, TMPDIR: join(home, 'tmp') },
  });
  expect([stderr, status]).toEqual(['', 0]);
  const left = readdirSync(home, { recursive: true }).map(String);
  expect(left).toContain('.cache/graft/weights');
  expect(left.filter((path) => !['.cache', 'tmp'].includes(path) && !/^\.cache\/graft(\/|$)/.test(path))).toEqual([]);
});
