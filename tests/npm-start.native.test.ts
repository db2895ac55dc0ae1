import { execFileSync, spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { collected } from '../packages/server/test/graft-process.ts';

const cwd = fileURLToPath(new URL('..', import.meta.url));
const model = 'tests/parity/cases/dense-tiny';
/** Without the set-up, which has run. */
const npmStart = (...args: string[]) =>
  collected(spawn('npm', ['start', '--ignore-scripts', ...args], { cwd, detached: true, env: { ...process.env, PORT: undefined } }));

test.each([
  ['--port 8080', '--port 8080'],
  ['--port=8080 --model=x.gguf', '--port 8080 --model x.gguf'],
  ['--enable-reload --max-sequences=4 --no-warm-up', '--enable-reload --max-sequences 4 --no-warm-up'],
  ['--port 8080 --model x.gguf', '--port <number> --model <text>'],
  ['--plugins=a --plugins=b', '--plugins a,b'],
])('npm start %s is an error that names the command that was meant', async (typed, meant) => {
  const { code, err } = npmStart(...typed.split(' '));
  expect(await code).not.toBe(0);
  const fix = /fix: npm start -- (.*)/.exec(err())?.[1]?.split(/ (?=--)/);
  expect(fix?.sort()).toEqual(meant.split(/ (?=--)/).sort());
});

test('npm start -- --port 0 --model FOLDER serves it', async () => {
  const { child, out } = npmStart('--', '--port', '0', '--json', '--model', model);
  await expect.poll(out, { timeout: 30_000 }).toContain('"url"');
  const { url, ...record } = JSON.parse(/^\{.*\}$/m.exec(out())![0]) as { url: string };
  expect(record).toMatchObject({ model: 'dense-tiny', platform: 'cpu' });
  expect((await fetch(`${url}/health`)).status).toBe(200);
  process.kill(-child.pid!, 'SIGTERM'); // npm and the server
});

test('no flag of graft serve but --json is a setting of npm, which npm start would always have', () => {
  const settings = execFileSync('npm', ['config', 'ls', '--long'], { encoding: 'utf8' }).matchAll(/^; ?([a-z-]+) = |^([a-z-]+) = /gm);
  const names = new Set([...settings].map(([, commented, set]) => commented ?? set));
  expect(names.size).toBeGreaterThan(100);
  const help = execFileSync(process.execPath, ['packages/server/bin/graft.mjs', 'serve', '--help'], { cwd, encoding: 'utf8' });
  const flags = [...help.matchAll(/^ {2}--(?:no-)?([a-z-]+)/gm)].map(([, name]) => name!);
  expect(flags.filter((name) => names.has(name))).toEqual(['json']);
});
