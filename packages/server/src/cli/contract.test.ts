import { PassThrough } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { runCli } from './main.ts';

const model = fileURLToPath(new URL('../../../../tests/parity/cases/maverick-tiny', import.meta.url));

async function run(...args: string[]) {
  const [stdin, stdout, stderr] = [new PassThrough(), new PassThrough(), new PassThrough()];
  const code = await runCli(args, { stdin, stdout, stderr });
  const read = (stream: PassThrough): string => String((stream.read() as Buffer | null) ?? '');
  return { code, out: read(stdout), err: read(stderr) };
}

test('graft contract prints an architecture’s class as a reliesOn to paste, with a model its parameters too', async () => {
  const { code, out } = await run('contract', 'Llama4ForCausalLM', '--model', model);
  expect(code).toBe(0);
  expect(out).toMatch(/^\/\/ Llama4ForCausalLM of plugin "core-model" 0\.1\.0/);
  expect(out).toContain("    'computeLogits(hiddenStates)',\n");
  expect(out).toContain("    'model.layers.*.feed_forward.experts.w13_weight',\n");
  expect(out).toMatch(/\/\/ {3}'forward': '[0-9a-f]{16}',\n/);
});

test('graft contract --json gives a part of a model as data', async () => {
  const { out } = await run('contract', 'Llama4Attention', '--json');
  expect(JSON.parse(out)).toMatchObject({
    class: 'Llama4Attention',
    architecture: null,
    plugin: 'core-model',
    reliesOn: { attributes: expect.arrayContaining(['Llama4Attention.qkv_proj']) as string[], version: '^0.1.0' },
  });
});

test('graft contract of an unknown name tells the nearest', async () => {
  const { code, err } = await run('contract', 'Llama4Atention');
  expect(code).toBe(2);
  expect(err).toContain('nearest: "Llama4Attention"');
});
