// docs/cli.md says the exit codes of each command. Each one is made here, and no other.
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest';
import { graftProcess } from '../../test/graft-process.ts';
import { FixtureHub } from '../models/hub.fixture.ts';
import { runCli } from './main.ts';

const root = fileURLToPath(new URL('../../../../', import.meta.url));
const file = (path: string) => join(root, path);
const base = mkdtempSync(join(tmpdir(), 'graft-exit-codes-'));
const model = file('tests/parity/cases/dense-tiny');
const hub = new FixtureHub();
const environment = { HF_HOME: join(base, 'home'), XDG_CACHE_HOME: base };

beforeAll(async () => {
  await hub.start();
  hub.commit('org/gguf', { 'x-Q8_0.gguf': 'eight' });
  for (const part of ['package.json', 'src/models', 'src/layers']) {
    for (const name of ['same', 'other']) cpSync(file(`packages/core-model/${part}`), join(base, name, part), { recursive: true });
  }
  rmSync(join(base, 'other/src/models/llama4.ts'));
});
afterAll(() => {
  hub.close();
  rmSync(base, { recursive: true, force: true });
});

async function run(args: readonly string[]): Promise<number> {
  const [stdin, stdout, stderr] = [new PassThrough(), new PassThrough(), new PassThrough()];
  return await runCli([...args], { stdin, stdout, stderr });
}

/** The process, after it asked a hub that does not answer: whatever it does then, it is not done. */
async function waitingForHub(...args: string[]) {
  const silent = createServer().listen(0, '127.0.0.1');
  onTestFinished(() => {
    silent.closeAllConnections();
    silent.close();
  });
  const asked = new Promise((resolve) => silent.once('request', resolve));
  await new Promise((resolve) => silent.once('listening', resolve));
  const process = graftProcess(args, { ...environment, HF_ENDPOINT: `http://127.0.0.1:${(silent.address() as AddressInfo).port}` });
  await asked;
  return process;
}

const plugin = file('packages/llama4-hpu/src/interpreter-hpu.fixture.ts');
const verify = ['verify', 'Llama4ForCausalLM', '--prompt-ids', '3,5,7', '--max-tokens', '2', '--plugins'];
const against = ['contract', 'llama4-hpu', '--plugins', file('packages/llama4-hpu/src/plugin.ts'), '--against'];
const runs: [code: 0 | 1 | 2, args: string[]][] = [
  [2, ['serve', '--port', '0', '--model', '/nowhere']],
  [2, ['chat', '--model', '/nowhere']],
  [0, ['explain', 'Llama4ForCausalLM']],
  [2, ['explain', 'Nope']],
  [0, ['list']],
  [2, ['list', '--plugins', '/nowhere.js']],
  [0, ['contract', 'RmsNorm']],
  [0, [...against, join(base, 'same')]],
  [1, [...against, join(base, 'other')]],
  [2, [...against, '/nowhere']],
  [0, ['graphs', '--model', model]],
  [2, ['graphs', '--model', '/nowhere']],
  [0, [...verify, plugin]],
  [1, [...verify, `${plugin},${file('tests/verify-plugin.fixture.ts')}`]],
  [2, [...verify, '/nowhere.js']],
  [2, ['new', 'plugin', 'packages']],
  [2, ['pull', 'org/gguf']],
  [0, ['models']],
  [2, ['models', '--bogus']],
  [2, ['rm', 'hf:org/none']],
  [0, ['completion', 'bash']],
  [2, ['completion', 'tcsh']],
];
const seen = new Set<string>();

test.each(runs)('the exit code is %s of graft %j', async (code, args) => {
  expect(await run(args)).toBe(code);
  seen.add(`${args[0]} ${code}`);
});

test('a hook that throws after its end ends the command with 2 and the normal error', async () => {
  const late = join(base, 'late.mjs');
  const run = "run: (model, _context, patches) => void setImmediate(() => patches.setField(model, 'late', 1))";
  const declaration = `{ name: 'late', hooks: [{ of: 'Llama4ForCausalLM', platform: 'hpu', phase: 'init', ${run} }] }`;
  const registry = file('packages/registry/dist/index.js');
  writeFileSync(late, `import { definePlugin } from '${registry}';\nexport default definePlugin(${declaration});\n`);
  const ended = graftProcess(['verify', 'Llama4ForCausalLM', '--json', '--plugins', `@graft/llama4-hpu,${late}`], environment);
  expect(await ended.code).toBe(2);
  expect(JSON.parse(ended.err())).toMatchObject({ code: 'GRAFT_PATCH_REFUSED', fix: expect.stringContaining('await what it starts') });
});

test('graft new, pull and rm end with 0 when they are done', async () => {
  const home = { ...environment, HF_ENDPOINT: hub.url };
  for (const args of [
    ['pull', 'hf:org/gguf'],
    ['rm', 'hf:org/gguf'],
    ['new', 'plugin', 'my-plugin'],
  ]) {
    expect(await graftProcess(args, home, base).code).toBe(0);
    seen.add(`${args[0]} 0`);
  }
});

test('a server and a chat that were ready end with 0', async () => {
  const server = graftProcess(['serve', '--json', '--port', '0', '--model', model], environment);
  await expect.poll(server.out, { timeout: 30_000 }).toContain('"url"');
  server.child.kill('SIGINT');
  const chat = graftProcess(['chat', '--model', model], environment);
  chat.child.stdin.end('/exit\n');
  expect([await server.code, await chat.code]).toEqual([0, 0]);
  for (const name of ['serve', 'chat']) seen.add(`${name} 0`);
});

test.each(['serve', 'chat', 'pull'])('a signal before graft %s is done ends it with 130 or 143', async (name) => {
  const args = name === 'pull' ? ['hf:org/x'] : ['--model', 'hf:org/x', ...(name === 'serve' ? ['--port', '0'] : [])];
  for (const [signal, code] of [
    ['SIGINT', 130],
    ['SIGTERM', 143],
  ] as const) {
    const waiting = await waitingForHub(name, ...args);
    waiting.child.kill(signal);
    expect(await waiting.code).toBe(code);
    expect(waiting.err()).not.toContain('graft:');
    seen.add(`${name} ${code}`);
  }
});

test.each(['serve', 'chat'])('ggml ends graft %s with 3 and with words on what was asked of it', async (name) => {
  // The plugin asks ggml for a row that a table lacks. It writes the index after the checks: at the first logits of a server, and when a chat starts.
  const [ggml, library] = ['index', 'library'].map((each) => file(`packages/ggml/dist/${each}.js`));
  const plugin = join(base, 'ends-ggml.mjs');
  writeFileSync(
    plugin,
    `import { LogitsProcessors } from '${file('packages/engine/dist/index.js')}';
import { devices, GraphBuilder, GraphMemory, Stream } from '${ggml}';
import { ggml } from '${library}';
import { definePlugin } from '${file('packages/registry/dist/index.js')}';
function wrongRow() {
  const [device] = devices();
  const builder = new GraphBuilder();
  const [table, rows] = [builder.input('F32', [4, 2]), builder.input('I32', [1], { below: 2 })];
  const graph = builder.build([builder.getRows(table, rows)], new GraphMemory(device), 'the wrong row');
  const fill = graph.fill.bind(graph);
  graph.fill = (values) => {
    fill(values);
    ggml().calls.ggml_backend_tensor_set(rows.handle, Int32Array.of(7), 0, 4);
  };
  void new Stream(device, { threads: 1 }).compute(graph, new Map([[table, new Float32Array(8)], [rows, new Int32Array(1)]]));
}
const processor = { name: 'wrong row', start: () => ({ apply: wrongRow }) };
export default definePlugin({ name: 'ends-ggml', ${
      name === 'serve'
        ? 'bind: (bind) => bind.many(LogitsProcessors).toConstantValue(processor)'
        : "hooks: [{ of: '*', platform: 'cpu', phase: 'init', run: wrongRow }]"
    } });
`,
  );
  const ready = ['--model', model, '--plugins', `@graft/cpu,${plugin}`];
  const ended = graftProcess([name, ...ready, ...(name === 'serve' ? ['--port', '0'] : [])], environment);
  if (name === 'serve') {
    await expect.poll(ended.out, { timeout: 30_000 }).toContain('Chat: http');
    const request = { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify({ prompt: [1, 2, 3] }) };
    await expect(fetch(`${/http:\S+\d/.exec(ended.out())![0]}/v1/completions`, request)).rejects.toThrow();
  }
  expect(await ended.code).toBe(3);
  expect(ended.err()).toMatch(/ggml ended the process: GGML_ASSERT\(.*\n {2}It computed the wrong row \(1 nodes; inputs F32 \[4, 2/);
  expect(ended.err()).toMatch(/where: ggml\/src\/\S+:\d+\n {2}fix: .*\n {2}code: GRAFT_GGML_ABORT/);
  seen.add(`${name} 3`);
});

test('docs/cli.md lists every command with these exit codes', async () => {
  const page = readFileSync(file('docs/cli.md'), 'utf8');
  const rows = [...page.matchAll(/^\| `graft (\w+)[^|]*\|[^|]*\| ([\d, ]+) \|$/gm)];
  expect(new Set(rows.flatMap(([, name, codes]) => codes!.split(', ').map((code) => `${name} ${code}`)))).toEqual(seen);
  const help = new PassThrough();
  await runCli(['--help'], { stdin: new PassThrough(), stdout: help, stderr: new PassThrough() });
  const commands = [
    ...String(help.read())
      .split('Commands:')[1]!
      .matchAll(/^ {2}(\w+)/gm),
  ].map(([, name]) => name);
  expect(rows.map(([, name]) => name).sort()).toEqual(commands.filter((name) => name !== 'help').sort());
});
