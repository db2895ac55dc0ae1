// Files as people have them. The expected probabilities are transformers', the ids of texts and the end tokens llama.cpp's.
import { cpSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { openCheckpoint } from '@graft/core-model';
import { LlmEngine } from '@graft/engine';
import { describe, expect, onTestFinished, test } from 'vitest';
import { safetensorsOf, type TestTensor } from '../packages/core-model/src/weights/checkpoint-files.fixture.ts';
import {
  caseFolder,
  collect,
  failureOf,
  generateIds,
  promptOf,
  request,
  root,
  temporaryFolder,
  tinyConfig,
} from '../packages/engine/src/engine.fixture.ts';
import { tokenizerFromGguf } from '../packages/engine/src/text/gguf-tokenizer.ts';
import { cpu } from './parity/backends.ts';
import { largestDifference } from './parity/compare.ts';
import { nextLogits, readField, runField } from './parity/run-field.ts';

const field = (name: string): string => join(caseFolder('field'), name);
const onCpu = (model: string) => tinyConfig({ model, plugins: ['@graft/cpu'], platform: 'cpu' });
const next = (model: string, ids = promptOf(9)): Promise<Float32Array> => nextLogits(model, ids, cpu, root);

async function metadataOf(file: string, more: Record<string, unknown> = {}): Promise<ReadonlyMap<string, unknown>> {
  using checkpoint = await openCheckpoint(field(file));
  return new Map([...checkpoint.metadata!, ...Object.entries(more)]);
}

test.each(readField(field('')))('$name continues its prompt as published', async (file) => {
  expect(await runField(file, cpu, root)).toMatchObject({ passed: true });
});

test.each(['Q4_0', 'Q4_K_M', 'Q5_K_M', 'Q6_K'])('llama-quantize %s keeps the tied embedding in Q6_K', async (type) => {
  using checkpoint = await openCheckpoint(field(`llama-quantize-${type}.gguf`));
  const types = new Map([...checkpoint.tensors].map(([key, { dtype }]) => [key, dtype]));
  expect(types.get('token_embd.weight')).toBe('Q6_K');
  expect(types.get('blk.0.attn_q.weight')).toBe(type.replace('_M', ''));
});

test('a GGUF with rope_freqs.weight answers as the safetensors that it was made from', async () => {
  const [ids] = readField(field('')).flatMap(({ name, ids }) => (name === 'LlamaForCausalLM' ? [ids] : []));
  const answers: number[][] = [];
  for (const model of ['llama3.2-ropefreqs-F16.gguf', 'LlamaForCausalLM']) {
    const engine = await LlmEngine.start({ ...onCpu(field(model)), maxModelLength: 128 });
    onTestFinished(() => engine.close());
    answers.push(await generateIds(engine, request([...ids!], { maxTokens: 24 })));
  }
  expect(answers[0]).toEqual(answers[1]);
});

test('any part of a split GGUF names the whole', async () => {
  const [first, ...others] = await Promise.all([1, 2, 3].map((part) => next(field(`split-0000${part}-of-00003.gguf`))));
  for (const other of others) expect(other).toEqual(first);
});

describe('the ids of a text', () => {
  test.each([
    ['hello world', [277, 282]],
    ['  two spaces', [260, 261, 270, 269, 290, 115, 283, 285, 267, 289]],
    ['a\nb', [264, 13, 284]],
    ['123', [259, 293, 294, 295]],
  ])('by SentencePiece, of %j', async (text, ids) => {
    const tokenizer = tokenizerFromGguf(await metadataOf('llama2-spm-F16.gguf'));
    expect(tokenizer.encode(text, { addSpecialTokens: false })).toEqual(ids);
    expect(tokenizer.encode(text)).toEqual([1, ...ids]);
  });

  const text = "HTTPServer's 12345, and\n\n  12 there";
  test.each([
    ['llama-bpe', [281], [72, 84, 84, 80, 83, 268, 118, 268, 272, 32, 271, 52, 53, 44, 273, 110, 100, 280, 32, 32, 270, 266, 278]],
    ['tekken', [281], [72, 84, 84, 80, 83, 268, 118, 268, 272, 32, 49, 50, 51, 52, 53, 44, 273, 110, 100, 280, 32, 32, 49, 50, 266, 278]],
    ['deepseek-llm', [], [72, 84, 84, 80, 83, 268, 118, 268, 39, 115, 32, 271, 52, 53, 44, 273, 110, 100, 10, 10, 269, 270, 266, 278]],
  ])('with pre "%s"', async (pre, begin, ids) => {
    const tokenizer = tokenizerFromGguf(await metadataOf('qkv-bias-F16.gguf', { 'tokenizer.ggml.pre': pre }));
    expect(tokenizer.encode(text, { addSpecialTokens: false })).toEqual(ids);
    expect(tokenizer.encode(text)).toEqual([...begin, ...ids]);
  });
});

test('an answer ends at every end-of-turn token that has a known name, not at eos_token_id alone', async () => {
  const engine = await LlmEngine.start(onCpu(field('qkv-bias-F16.gguf')));
  onTestFinished(() => engine.close());
  const ends = { '<|end|>': 282, '<|im_end|>': 284, '<|eot_id|>': 285 };
  for (const id of Object.values(ends)) {
    const sampling = { logitBias: { [id]: 100 }, ignoreEos: false };
    expect((await collect(engine.generate(request(promptOf(4), sampling)))).at(-1)).toMatchObject({ finishReason: 'stop' });
  }
  const other = { logitBias: { 283: 100 }, ignoreEos: false }; // <|im_start|>
  expect((await collect(engine.generate(request(promptOf(4), other)))).at(-1)).toMatchObject({ finishReason: 'length' });
});

describe('weights quantised in groups of the input', () => {
  const [groupSize, columns, rows] = [16, 32, 64]; // of q_proj: in, out
  const quant = (row: number, column: number): number => (row * 7 + column * 3) % 16;
  const zero = (row: number, group: number): number => 1 + ((row + group * 5) % 15);
  const scale = (row: number, group: number): number => 2 ** -7 * (1 + ((row + group) % 4));
  const words = (lines: number, width: number, nibble: (line: number, place: number) => number): TestTensor => {
    const all = new Uint32Array(lines * width);
    for (let i = 0; i < all.length; i++)
      for (let place = 0; place < 8; place++)
        all[i] = (all[i]! | (nibble(Math.floor(i / width), (i % width) * 8 + place) << (4 * place))) >>> 0;
    return { dtype: 'I32', shape: [lines, width], data: new Uint8Array(all.buffer) };
  };
  const float32 = (shape: number[], value: (line: number, place: number) => number): TestTensor => {
    const data = Float32Array.from({ length: shape[0]! * shape[1]! }, (_, i) => value(Math.floor(i / shape[1]!), i % shape[1]!));
    return { dtype: 'F32', shape, data: new Uint8Array(data.buffer) };
  };
  /** Eight neighbours of the input lie in one word. */
  const alongInput = (): TestTensor => {
    const all = new Uint32Array((columns / 8) * rows);
    for (let row = 0; row < rows; row++)
      for (let column = 0; column < columns; column++) {
        const at = (column >> 3) * rows + row;
        all[at] = (all[at]! | (quant(row, column) << (4 * (column & 7)))) >>> 0;
      }
    return { dtype: 'I32', shape: [columns / 8, rows], data: new Uint8Array(all.buffer) };
  };
  const groups = columns / groupSize;
  const awqOrder = [0, 2, 4, 6, 1, 3, 5, 7];
  const inAwqOrder = (value: (line: number, row: number) => number) => (line: number, place: number) =>
    value(line, (place & ~7) + awqOrder[place & 7]!);
  const scales = float32([groups, rows], (group, row) => scale(row, group));
  const forms: Record<string, Record<string, TestTensor>> = {
    gptq: { qweight: alongInput(), qzeros: words(groups, rows / 8, (group, row) => zero(row, group) - 1), scales },
    awq: {
      qweight: words(
        columns,
        rows / 8,
        inAwqOrder((column, row) => quant(row, column)),
      ),
      qzeros: words(
        groups,
        rows / 8,
        inAwqOrder((group, row) => zero(row, group)),
      ),
      scales,
    },
  };
  const group = (column: number): number => Math.floor(column / groupSize);
  const dense = {
    weight: float32([rows, columns], (row, column) => scale(row, group(column)) * (quant(row, column) - zero(row, group(column)))),
  };

  /** dense-tiny with other tensors in the place of each q_proj.weight. */
  async function folderWith(tensors: Record<string, TestTensor>, quantization_config?: object): Promise<string> {
    const folder = temporaryFolder();
    cpSync(caseFolder('dense-tiny'), folder, { recursive: true });
    const config = JSON.parse(readFileSync(join(folder, 'config.json'), 'utf8')) as object;
    using checkpoint = await openCheckpoint(caseFolder('dense-tiny'));
    const all = [...checkpoint.tensors].flatMap(([key, { dtype, shape, file, offset, byteLength }]) => {
      const parts = Object.entries(tensors).map(([name, tensor]) => [key.replace('weight', name), tensor] as const);
      return key.endsWith('q_proj.weight') ? parts : [[key, { dtype, shape: [...shape], data: file.read(offset, byteLength) }] as const];
    });
    writeFileSync(join(folder, 'model.safetensors'), safetensorsOf(Object.fromEntries(all)));
    writeFileSync(join(folder, 'config.json'), JSON.stringify({ ...config, quantization_config }));
    return folder;
  }

  const settings = (method: string) => ({ quant_method: method, bits: 4, group_size: groupSize });

  test.each(Object.entries(forms))('by %s answer as the matrices that they stand for', async (method, tensors) => {
    const expected = await next(await folderWith(dense));
    const actual = await next(await folderWith(tensors, settings(method)));
    expect(largestDifference(actual, expected)).toBeLessThan(1e-5);
    expect(largestDifference(actual, await next(caseFolder('dense-tiny')))).toBeGreaterThan(0.01);
  });

  test('in the layout of gptq and called awq are refused by the name of their quantization_config', async () => {
    const error = await failureOf(LlmEngine.start(onCpu(await folderWith(forms['gptq']!, settings('awq')))));
    expect(error).toMatchObject({ code: 'GRAFT_CHECKPOINT_CORRUPT', what: expect.stringContaining('quantization_config "awq"') });
  });
});

test('LongRoPE with lists of another length than the frequencies is a contradiction in the config of a Phi-3', async () => {
  const folder = temporaryFolder();
  cpSync(caseFolder('phi3-short'), folder, { recursive: true });
  const config = JSON.parse(readFileSync(join(folder, 'config.json'), 'utf8')) as { rope_scaling: object };
  const rope_scaling = { ...config.rope_scaling, long_factor: [1], short_factor: [1] };
  writeFileSync(join(folder, 'config.json'), JSON.stringify({ ...config, rope_scaling }));
  const error = await failureOf(LlmEngine.start(onCpu(folder)));
  expect(error).toMatchObject({ code: 'GRAFT_CONFIG_CONTRADICTION', where: expect.stringContaining('rope_scaling.short_factor') });
});
