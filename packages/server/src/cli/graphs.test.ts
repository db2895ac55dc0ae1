import { PassThrough } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { runCli } from './main.ts';

const model = fileURLToPath(new URL('../../../../tests/parity/cases/maverick-tiny', import.meta.url));

async function run(...args: string[]) {
  const [stdin, stdout, stderr] = [new PassThrough(), new PassThrough(), new PassThrough()];
  const code = await runCli(['graphs', ...args], { stdin, stdout, stderr });
  const read = (stream: PassThrough): string => String((stream.read() as Buffer | null) ?? '');
  return { code, out: read(stdout), err: read(stderr) };
}

test('graft graphs counts the graphs of a model on hpu and compares two of its layers, with the overrides and without one of them', async () => {
  const hpu = ['--model', model, '--platform', 'hpu', '--plugins', '@graft/llama4-hpu', '--why', '1,3'];
  const { code, out } = await run(...hpu);
  expect(code).toBe(0);
  expect(out).toContain('2 graphs to capture: Llama4ForCausalLM as HpuLlama4ForCausalLM');
  expect(out).toContain('model.layers.1 and model.layers.3 share a graph');
  const less = await run(...hpu, '--override-options', '{"branchFree": false}', '--json');
  const record = JSON.parse(less.out) as { forecast: { graphs: number }; why: { differences: { path: string }[] } };
  expect(record.forecast.graphs).toBe(3);
  expect(record.why.differences.map(({ path }) => path)).toContain('self_attn.rotary_emb');
});

test.each([
  [['--model', model, '--buckets', '1x'], '--buckets'],
  [['--model', model, '--why', '3'], '--why'],
  [[], '--model'],
])('graft graphs %j is refused, naming the flag', async (args, flag) => {
  const { code, err } = await run(...args);
  expect(code).toBe(2);
  expect(err).toContain(flag);
});
