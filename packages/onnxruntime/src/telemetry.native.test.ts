import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';

const library = new URL('../dist/index.js', import.meta.url).href;

/** Makes a session, on the built files: a worker of plain Node needs them. */
const session = `import { Environment, GraphBuilder } from '${library}';
const graph = new GraphBuilder('negate');
graph.output(graph.op('Neg', [graph.input('x', 'float32', [1])], { output: 'y' }), 'float32', [1]);
const environment = Environment.create();
(await environment.createSession(graph.toBytes(), { intraOpThreads: 1 }))[Symbol.dispose]();
environment[Symbol.dispose]();`;
const inWorker = `import { Worker } from 'node:worker_threads';
new Worker(new URL('data:text/javascript,' + encodeURIComponent(${JSON.stringify(session)})));`;

/** What a process leaves in its home and temporary folders. */
function leftBy(script: string, more: Record<string, string> = {}): string[] {
  const home = mkdtempSync(join(tmpdir(), 'graft-home-'));
  onTestFinished(() => rmSync(home, { recursive: true }));
  const { status, stderr } = spawnSync(process.execPath, ['--input-type=module', '--eval', script], {
    encoding: 'utf8',
    env: { PATH: process.env['PATH'], HOME: home, TMPDIR: home, ...more }, // no CI=1: ONNX Runtime turns telemetry off where it finds that
  });
  expect([stderr, status]).toEqual(['', 0]);
  return readdirSync(home, { recursive: true }).map(String);
}

test.each([
  ['the main thread', session],
  ['a worker', inWorker],
])('a session made in %s leaves no device id and no events behind', (_, script) => {
  expect(leftBy(script)).toEqual([]);
});

test('a user who sets ORT_DISABLE_TELEMETRY=0 gets what ONNX Runtime does by itself', () => {
  expect(leftBy(session, { ORT_DISABLE_TELEMETRY: '0' })).toContainEqual(expect.stringContaining('deviceid'));
});
