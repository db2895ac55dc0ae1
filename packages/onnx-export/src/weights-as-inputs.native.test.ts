import {
  type AttributesOf,
  type CapturedModel,
  captureModel,
  type HostTensor,
  InterpreterBackend,
  inlineRegions,
  memoryStorage,
  ops,
  Parameter,
} from '@graft/graph';
import { Environment, OrtValue } from '@graft/onnxruntime';
import type { ElementType } from '@graft/system';
import { expect, test } from 'vitest';
import { difference, float32, holder, int64, parameter, specOf } from '../../../tests/compare.fixture.ts';
import { type ExportedGraph, exportGraph } from './export-graph.ts';
import { checkStep, sizesOf } from './step-check.ts';

const noSlots = {
  kvSlots: 1,
  bindRuntimeInput: (path: string): never => {
    throw new Error(`no runtime input expected, got ${path}`);
  },
};

const exportInputs = (captured: CapturedModel): ExportedGraph => exportGraph(inlineRegions(captured), 'inputs', noSlots);

/** Runs an exported graph whose weights are inputs, with the values that their parameters have now. */
async function run(
  { model, inputs, outputs, weights }: ExportedGraph,
  given: Record<string, HostTensor>,
): Promise<Record<string, HostTensor>> {
  using environment = Environment.create();
  using session = await environment.createSession(model, { intraOpThreads: 1 });
  using binding = session.bind({});
  const bind = (name: string, { dtype, dims, data }: HostTensor): void => {
    binding.bindInput(name, OrtValue.from(dtype as ElementType, dims, [...(data as ArrayLike<number> & Iterable<number>)]));
  };
  for (const { name } of inputs) bind(name, given[name]!);
  for (const { name, slot } of weights) bind(name, { dtype: 'float32', dims: slot.shape, data: slot.source.toFloat32() });
  const symbols = checkStep({ inputs, groups: [] }, { firstSlot: 0, batch: 1, inputs: given }, 1);
  const results = outputs.map(({ name, tensor, dtype, dims }): [string, HostTensor] => {
    const value = OrtValue.allocate(dtype as 'float32', sizesOf(dims, symbols));
    binding.bindOutput(tensor, value);
    return [name, { dtype, dims: value.dims, data: value.view }];
  });
  await session.run(binding);
  return Object.fromEntries(results);
}

async function expectAsInterpreted(captured: CapturedModel, inputs: Record<string, HostTensor>): Promise<void> {
  using program = await new InterpreterBackend().compile(captured, noSlots);
  const expected = await program.run({ firstSlot: 0, batch: 1, inputs });
  const actual = await run(exportInputs(captured), inputs);
  expect(Object.keys(actual)).toEqual(Object.keys(expected));
  for (const [name, tensor] of Object.entries(expected)) {
    expect([...actual[name]!.dims]).toEqual([...tensor.dims]);
    expect(difference(actual[name]!, tensor), name).toBeLessThan(1e-5);
  }
}

const routed = (tokens: number, experts: number, topK: number, more: Partial<AttributesOf<typeof ops.fusedMoe>> = {}): CapturedModel => {
  const biased = more.routing !== undefined;
  const model = holder({
    w13: parameter([experts, 32, 16], 'float32', 3),
    w2: parameter([experts, 16, 16], 'float32', 4),
    w13Bias: biased ? parameter([experts, 32], 'float32', 5) : null,
    w2Bias: biased ? parameter([experts, 16], 'float32', 6) : null,
  });
  const inputs = { x: specOf('float32', tokens, 16), logits: specOf('float32', tokens, experts) };
  return captureModel(model, {
    inputs,
    call: ({ w13, w2, w13Bias, w2Bias }, { x, logits }) => ({
      y: ops.fusedMoe({ x, routerLogits: logits, w13, w2, w13Bias, w2Bias }, { topK, ...more }),
    }),
  });
};

test.each([1, 5].flatMap((tokens) => [4, 16].flatMap((experts) => [1, 2].map((topK) => ({ tokens, experts, topK })))))(
  'all $experts experts in one product, $topK chosen by each of $tokens tokens, give what the interpreter gives',
  async ({ tokens, experts, topK }) => {
    await expectAsInterpreted(routed(tokens, experts, topK), { x: float32([tokens, 16], 7), logits: float32([tokens, experts], 8) });
  },
);

test.each(['softmax', 'softmaxOfChosen'] as const)('biases and shares of the softmax: %s', async (routing) => {
  for (const activation of [{ kind: 'silu' }, { kind: 'swigluOai', alpha: 1.702, limit: 0.4 }] as const)
    for (const topK of [1, 3]) {
      const inputs = { x: float32([5, 16], 7), logits: float32([5, 4], 8) };
      await expectAsInterpreted(routed(5, 4, topK, { routing, activation }), inputs);
    }
});

test('experts with equal logits: the lower one is taken', async () => {
  const logits: HostTensor = { dtype: 'float32', dims: [1, 4], data: Float32Array.of(0, 2, 2, 2) };
  await expectAsInterpreted(routed(1, 4, 2), { x: float32([1, 16], 9), logits });
});

test.each(['float32', 'bfloat16', 'int8b32', 'int4b32o'] as const)('weights kept as %s are float32 inputs', async (format) => {
  const model = holder({ weight: parameter([64, 32], format), bias: parameter([64]), norm: parameter([32], 'float32', 2) });
  const captured = captureModel(model, {
    inputs: { ids: specOf('int64', 2, 3) },
    call({ weight, bias, norm }, { ids }) {
      const x = ops.rmsNorm({ x: ops.embedding({ ids, weight }), weight: norm }, { epsilon: 1e-5 });
      return { logits: ops.linear({ x, weight, bias }) };
    },
  });
  await expectAsInterpreted(captured, { ids: int64([2, 3], [0, 63, 5, 1, 1, 2]) });
  expect(exportInputs(captured).weights.map(({ name, slot }) => [name, ...slot.shape])).toEqual([
    ['weight weight', 64, 32],
    ['weight norm', 32],
    ['weight bias', 64],
  ]);
});

test('the same graph gives the same bytes, whatever its weights are; another shape gives others', () => {
  const scaled = (size: number, storage: Float32Array | null) => {
    const scale = new Parameter([1]);
    if (storage !== null) scale.setStorage(memoryStorage('float32', [1], { data: storage }));
    const captured = captureModel(holder({ scale }), {
      inputs: { x: specOf('float32', size) },
      call: (model, { x }) => ({ y: ops.mul({ a: x, b: model.scale }) }),
    });
    return exportInputs(captured).model;
  };
  expect(scaled(4, Float32Array.of(3))).toEqual(scaled(4, null));
  expect(scaled(5, null)).not.toEqual(scaled(4, null));
});
