import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, expect, test } from 'vitest';
import * as z from 'zod';
import { graftProcess } from '../../test/graft-process.ts';

const url = (path: string) => new URL(`../../../${path}`, import.meta.url);
const model = fileURLToPath(url('../tests/parity/cases/dense-tiny'));
const base = mkdtempSync(join(tmpdir(), 'graft-platforms-'));
afterAll(() => rmSync(base, { recursive: true, force: true }));

/** A plugin with these platforms. Each call of a detector leaves a line in the file `detected`; `soft` runs on the cpu's backend. */
function pluginWith(detectors: Record<string, string>) {
  const folder = mkdtempSync(join(base, 'plugin-'));
  const detected = join(folder, 'detected');
  const platforms = Object.entries(detectors).map(
    ([name, body]) =>
      `{ name: '${name}', modes: ['full'], detect() { appendFileSync(${JSON.stringify(detected)}, '${name}\\n'); ${body} } }`,
  );
  const file = join(folder, 'plugin.mjs');
  writeFileSync(detected, '');
  writeFileSync(
    file,
    `import { appendFileSync } from 'node:fs';
import { Backend } from '${url('engine/dist/index.js')}';
import { definePlugin } from '${url('registry/dist/index.js')}';
export default definePlugin({
  name: 'devices',
  platforms: [${platforms.join(', ')}],
  bind(bind) {
    bind(Backend, { platform: 'soft' }).to(() => import('${url('cpu/dist/ort-backend.js')}').then((m) => m.OrtBackend));
  },
});
`,
  );
  return { file, detections: () => readFileSync(detected, 'utf8').split('\n').slice(0, -1).sort() };
}

const graft = (...args: string[]) => graftProcess(args, { XDG_CACHE_HOME: join(base, 'cache') });

const serving = (plugin: string, ...more: string[]) =>
  graft('serve', '--port', '0', '--model', model, '--threads', '1', '--plugins', `@graft/cpu,${plugin}`, ...more);

const absent = "return { device: 'absent', reason: 'no /dev/accel0' };";
const throws = "throw new Error('driver 3 is too old');";
const device = "return { device: 'device', reason: '/dev/accel0' };";

test.each([
  ['is absent', 'hpu', 'is absent: no /dev/accel0'],
  ['throws', 'npu', 'could not be detected: driver 3 is too old'],
])(
  'a platform asked for that %s ends graft serve with its cause, on no other platform, and no other detector ran',
  async (_, asked, cause) => {
    const plugin = pluginWith({ hpu: absent, npu: throws });
    const run = serving(plugin.file, '--platform', asked);
    expect(await run.code).toBe(2);
    expect(run.err()).toContain(`Platform "${asked}" was asked for and ${cause}`);
    expect(run.err()).toContain('none is chosen in its place');
    expect(run.out()).toBe(''); // nothing was served
    expect(plugin.detections()).toEqual([asked]);
  },
);

test('two devices end graft chat with advice on how to choose, and each detector ran once', async () => {
  const plugin = pluginWith({ hpu: device, npu: device });
  const run = graft('chat', '--model', model, '--plugins', `@graft/cpu,${plugin.file}`);
  expect(await run.code).toBe(2);
  expect(run.err()).toContain('choose one by name, for example --platform hpu.');
  expect(plugin.detections()).toEqual(['hpu', 'npu']);
});

test('an emulated platform asked for serves and is announced with its reason; no other detector ran', async () => {
  const plugin = pluginWith({ soft: "return { device: 'emulated', reason: 'ONNX Runtime on the CPU' };", hpu: absent });
  const run = serving(plugin.file, '--platform', 'soft');
  await expect.poll(run.out, { timeout: 30_000, interval: 50 }).toContain('Chat: http');
  expect(run.out()).toContain('is served by Llama4ForCausalLM on soft (full, emulated device).');
  expect(run.err()).toContain('Platform "soft" is emulated: asked for by name; ONNX Runtime on the CPU.');
  const health = (await (await fetch(`${/http:\S+/.exec(run.out())![0]}/health`)).json()) as { engine: object };
  expect(health.engine).toMatchObject({ platform: 'soft', device: 'emulated', changes: { hooks: [], renames: [], patches: [] } });
  expect(plugin.detections()).toEqual(['soft']);
  run.child.kill('SIGTERM');
  expect(await run.code).toBe(0);
});

test('the output of graft explain --json validates against the published schema', async () => {
  const run = graft('explain', 'Nobody', 'Llama4ForCausalLM', '--plugins', '@graft/cpu,@graft/llama4-hpu', '--platform', 'hpu', '--json');
  expect(await run.code).toBe(0);
  const record = JSON.parse(run.out()) as { candidates: { plugin: string; reason: string }[] };
  z.fromJSONSchema(JSON.parse(readFileSync(url('../docs/resolution.schema.json'), 'utf8'))).parse(record);
  expect(record.candidates.map(({ plugin, reason }) => [plugin, reason])).toEqual([
    ['core-model', 'base'],
    ['llama4-hpu', 'selected'],
  ]);
});

test('graft explain --services prints who binds each service, which binding serves, and where it is injected', async () => {
  const asked = ['explain', '--services', '--platform', 'hpu', '--mode', 'eager', '--plugins', '@graft/cpu,@graft/llama4-hpu'];
  const text = graft(...asked);
  const json = graft(...asked, '--json');
  expect([await text.code, await json.code]).toEqual([0, 0]);
  const [backend] = /Backend [\s\S]*?injected into .*/.exec(text.out())!;
  expect(backend.replace(/ \([^)]*plugin\.js\)/g, '').split('\n')).toEqual([
    'Backend (one for each engine)',
    '  * class InterpreterBackend, by llama4-hpu',
    '  injected into EagerRunner',
  ]);
  const records = JSON.parse(json.out()) as { token: string }[];
  expect(records.find(({ token }) => token === 'SchedulerPolicy')).toMatchObject({ isList: false, injectedInto: ['SequencePolicies'] });
});

test('graft explain --patches lists the hooks of a model, as text and as data, and asks for a model if none is given', async () => {
  const asked = ['explain', '--patches', '--platform', 'cpu', '--plugins', '@graft/cpu'];
  const [text, data, nothing] = [graft(...asked, '--model', model), graft(...asked, '--model', model, '--json'), graft(...asked)];
  expect([await text.code, await data.code, await nothing.code]).toEqual([0, 0, 2]);
  expect(text.out()).toContain('hooks: none\nrenamed parameters: none\npatches in effect: none');
  expect(JSON.parse(data.out())).toMatchObject({ resolution: { architecture: 'Llama4ForCausalLM' }, hooks: [], renames: [], patches: [] });
  expect(nothing.err()).toContain('where: --model');
});
