import { PassThrough } from 'node:stream';
import { fileURLToPath } from 'node:url';
import type { VerifyRecord } from '@graft/engine';
import { expect, test } from 'vitest';
import { runCli } from './main.ts';

const file = (path: string): string => fileURLToPath(new URL(`../../../../${path}`, import.meta.url));
/** The overrides of llama4-hpu on the interpreter; and one of an application on top of them, wrong at layer 7. */
const overrides = file('packages/llama4-hpu/src/interpreter-hpu.fixture.ts');
const wrong = file('tests/verify-plugin.fixture.ts');
const idle = file('packages/server/test/idle-plugin.ts');

async function verify(plugins: string, ...args: string[]) {
  const [stdin, stdout, stderr] = [new PassThrough(), new PassThrough(), new PassThrough()];
  const code = await runCli(['verify', '--plugins', plugins, ...args], { stdin, stdout, stderr });
  const read = (stream: PassThrough): string => String((stream.read() as Buffer | null) ?? '');
  return { code, out: read(stdout), err: read(stderr) };
}

const short = ['--prompt-ids', '3,5,7', '--max-tokens', '2'];

test.each(['Llama4ForCausalLM', 'Llama4ForConditionalGeneration'])('graft verify %s is equal and ends with 0', async (architecture) => {
  const { code, out, err } = await verify(overrides, architecture, ...short);
  expect(code).toBe(0);
  expect(out).toContain(`Hpu${architecture} against ${architecture}`);
  expect(out).toMatch(/\nkinds of layers +4 +2\n/);
  expect(out).toContain('\nEQUAL: ');
  expect(err).toContain('override: ');
});

test('graft verify of a wrong override ends with 1, and names the layer in the table and in the record', async () => {
  const { code, out } = await verify(`${overrides},${wrong}`, 'Llama4ForCausalLM', ...short);
  expect(code).toBe(1);
  expect(out).toMatch(/\nlayer 7 .* over\n/);
  expect(out).toContain('\nDIFFERS: layer 7 is the first over 1.0e-4');
  const json = await verify(`${overrides},${wrong}`, 'Llama4ForCausalLM', ...short, '--json');
  expect(json.code).toBe(1);
  const record = JSON.parse(json.out) as VerifyRecord;
  expect(record).toMatchObject({ verdict: 'differs', firstOver: 7, promptIds: [3, 5, 7] });
});

test('equal numbers that prove nothing end with 1, and the reason is printed', async () => {
  const { code, out } = await verify(`${overrides},${idle}`, 'Llama4ForCausalLM', ...short);
  expect(code).toBe(1);
  expect(out).toContain('UNPROVEN: ');
  expect(out).toContain('The hook idle: unify of plugin "idle" ran and changed nothing.');
});

test('options of the override and the tolerance reach the comparison', async () => {
  const options = ['--override-options', '{"branchFree": false}', '--seed', '3', '--tolerance', '0.5', '--json'];
  const { code, out } = await verify(`${overrides},${wrong}`, 'Llama4ForCausalLM', ...short, ...options);
  const record = JSON.parse(out) as VerifyRecord;
  expect(record).toMatchObject({ tolerance: 0.5, firstOver: null, weights: expect.stringContaining('seed 3') });
  expect(code).toBe(record.ids!.equal ? 0 : 1);
  expect(record.override.kinds.length).toBeGreaterThan(3); // three without branch-free, and the spoilt layer's own
});

test('an override that fails ends with 1, and says where', async () => {
  const { code, out } = await verify(overrides, 'Llama4ForCausalLM', ...short, '--override-options', '{"branchfree": false}');
  expect(code).toBe(1);
  expect(out).toMatch(/override failed at step \w+: .*branchfree/);
});

test.each([
  ['an unknown flag', ['--tolerence', '1'], 'Did you mean --tolerance?'],
  ['a negative tolerance', ['Llama4ForCausalLM', '--tolerance', '-1'], '0 or more'],
  ['no token', ['Llama4ForCausalLM', '--max-tokens', '0'], 'at least 1'],
  ['two prompts', ['Llama4ForCausalLM', '--prompt', 'a', '--prompt-ids', '1'], 'Two prompts'],
  ['nothing to verify', [], 'Neither an architecture nor a model is named'],
  ['a platform without an override', ['Llama4ForCausalLM', '--platform', 'plain'], 'GRAFT_NOTHING_TO_VERIFY'],
  ['a missing model', ['--model', '/nowhere'], 'GRAFT_CHECKPOINT_NOT_FOUND'],
])('%s is an error and ends with 2, which is not "differs"', async (_, args, words) => {
  const { code, err } = await verify(overrides, ...args);
  expect(code).toBe(2);
  expect(err).toContain(words);
});

test('graft verify --help ends with 0', async () => {
  const { code, out } = await verify(overrides, '--help');
  expect(code).toBe(0);
  expect(out).toContain('--prompt-ids <list>');
});

test('graft verify --ops lists each op of a platform with its difference, and asks for the platform', async () => {
  const interpreter = file('packages/engine/src/interpreter-plugin.fixture.ts');
  const { code, out } = await verify(interpreter, '--ops', '--platform', 'interpreter');
  expect(code).toBe(0);
  expect(out).toMatch(/^held +rmsNorm +lowering +off by 0\.0e\+0, allowed 1\.0e-4$/m);
  expect(out).toMatch(/^held +attention +lowering +off by 0\.0e\+0, allowed 1\.0e-4$/m);
  expect(await verify(overrides, '--ops')).toMatchObject({ code: 2, err: expect.stringContaining('--platform') });
});
