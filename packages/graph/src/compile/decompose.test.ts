import { expect, test } from 'vitest';
import { z } from 'zod';
import { type CapturedModel, captureModel } from '../capture/capture.ts';
import { InterpreterBackend } from '../interpreter.ts';
import { Module } from '../nn/module.ts';
import { defineOp, type OpFacts } from '../ops/define-op.ts';
import { ops } from '../ops/index.ts';
import { Dim, dimsOf } from '../shape.ts';
import type { Tensor } from '../tensor.ts';
import { decomposeOps } from './decompose.ts';
import { inlineRegions } from './full.ts';

const declaration = {
  inputs: ['x'],
  plugin: 'acme',
  attributes: z.strictObject({ cap: z.number().positive() }),
  infer: ({ x }: { x: Tensor | { dtype: 'float32'; dims: Tensor['dims'] } }) => ({ dtype: x.dtype, dims: x.dims }),
} as const;
/** `cap * tanh(x / cap)`, as a plugin defines it. */
const softCap = defineOp({ ...declaration, name: 'softCap', decompose: ({ x }, { cap }) => x.div(cap).tanh().mul(cap) });
const withKernel = defineOp({
  ...declaration,
  name: 'withKernel',
  kernel: ({ x }, { cap }) => [{ ...x, data: Float32Array.from(x.data as Float32Array, (value) => cap * Math.tanh(value / cap)) }],
});
const withNeither = defineOp({ ...declaration, name: 'withNeither' });
const endless: OpFacts & typeof softCap = defineOp({
  ...declaration,
  name: 'endless',
  decompose: ({ x }, { cap }): Tensor => endless({ x }, { cap }),
});

class Layer extends Module {
  static override readonly region = { name: 'layer', inputs: ['x'] };
  readonly op: typeof softCap;
  constructor(op: typeof softCap) {
    super();
    this.op = op;
  }
  forward(x: Tensor): Tensor {
    return this.op({ x }, { cap: 2 }).add(x);
  }
}
class Model extends Module {
  readonly layer: Layer;
  constructor(op: typeof softCap) {
    super();
    this.layer = new Layer(op);
  }
  forward(x: Tensor): Tensor {
    return this.layer.forward(x);
  }
}

const captureOf = (op: typeof softCap): CapturedModel =>
  captureModel(new Model(op), {
    inputs: { x: { dtype: 'float32', dims: [Dim.symbol('rows'), Dim.of(2)] } },
    call: (model, { x }) => ({ y: model.forward(x) }),
  });
const compileOptions = { kvSlots: 1, bindRuntimeInput: () => ({ kind: 'cache', rows: 1 }) as const };

test.each([
  ['its decomposition', softCap],
  ['its kernel', withKernel],
])("the interpreter runs a plugin's op by %s, inside a region too", async (_name, op) => {
  using program = await new InterpreterBackend().compile(captureOf(op), compileOptions);
  const { y } = await program.run({
    firstSlot: 0,
    batch: 1,
    inputs: { x: { dtype: 'float32', dims: [1, 2], data: Float32Array.of(1, 8) } },
  });
  for (const [i, x] of [1, 8].entries()) expect(y!.data[i]).toBeCloseTo(2 * Math.tanh(x / 2) + x, 5);
});

test.each([['with neither', withNeither]])(
  'an op %s is an error that names its place, itself, its plugin and the platform',
  async (_name, op) => {
    const compiled = new InterpreterBackend().compile(captureOf(op), compileOptions);
    await expect(compiled).rejects.toMatchObject({ code: 'GRAFT_OP_NOT_LOWERED', where: 'layer' });
    await expect(compiled).rejects.toThrow(new RegExp(`"interpreter" has no lowering of the op "${op.name}" of plugin "acme"`));
  },
);

const anyOf = (value: unknown) => (() => value) as never;
const unlike: [string, object, RegExp][] = [
  ['decomposition is undefined', { decompose: anyOf(undefined) }, /decompose gave undefined, expected float32/],
  ['decomposition is a number', { decompose: anyOf(1) }, /decompose gave a number/],
  ['decomposition is async', { decompose: anyOf(Promise.resolve()) }, /decompose gave a Promise/],
  ['decomposition gives too few', { decompose: anyOf([]) }, /decompose gave nothing/],
  ['decomposition throws', { decompose: () => (undefined as never as Tensor).exp() }, /decompose threw: .*undefined/],
  ['decomposition calls an op wrongly', { decompose: ({ x }: { x: Tensor }) => x.reshape(7) }, /decompose threw: /],
  [
    'decomposition leads back to it',
    { decompose: ({ x }: { x: Tensor }) => endless({ x }, { cap: 2 }) },
    /"interpreter" has no lowering of it/,
  ],
  ['kernel gives undefined', { kernel: anyOf(undefined) }, /kernel gave undefined, expected a list of 1/],
  ['kernel gives no list', { kernel: anyOf({ data: [] }) }, /kernel gave a Object/],
  [
    'kernel gives other dimensions',
    { kernel: anyOf([{ dtype: 'float32', dims: [3], data: new Float32Array(3) }]) },
    /gave float32\[3\], expected/,
  ],
  [
    'kernel gives too few values',
    { kernel: anyOf([{ dtype: 'float32', dims: [1, 2], data: new Float32Array(1) }]) },
    /1 values, expected 2/,
  ],
  ['inference is undefined', { infer: anyOf(undefined) }, /infer gave undefined/],
];
test.each(unlike)('a plugin op whose %s is an error with the op, its plugin and its place', async (_name, parts, what) => {
  const run = async () => {
    const op = defineOp({ ...declaration, name: 'odd', ...parts } as never) as unknown as typeof softCap;
    using program = await new InterpreterBackend().compile(captureOf(op), compileOptions);
    const x = { dtype: 'float32', dims: [1, 2], data: Float32Array.of(1, 8) } as const;
    await program.run({ firstSlot: 0, batch: 1, inputs: { x } });
  };
  const where = expect.stringMatching(/^op "(odd|endless)" of plugin "acme".*layer/);
  await expect(run()).rejects.toMatchObject({ code: 'GRAFT_OP_FAULTY', where, what: expect.stringMatching(what) });
});

test.each([
  ['name', { name: undefined }],
  ['inputs', { inputs: 'x' }],
  ['attributes', { attributes: undefined }],
  ['infer', { infer: null }],
  ['decompose', { decompose: 1 }],
])('an op declared with a wrong %s is refused where it is declared', (part, wrong) => {
  const declare = () => defineOp({ ...declaration, name: 'odd', ...wrong } as never);
  expect(declare).toThrow(expect.objectContaining({ code: 'GRAFT_OP_FAULTY', what: expect.stringContaining(`Its ${part} is `) }));
});

test('a graph is decomposed only as far as a backend needs it', () => {
  const graph = inlineRegions(captureOf(softCap));
  expect(decomposeOps(graph, { isLowered: () => true, platform: 'p' })).toBe(graph);
  const decomposed = decomposeOps(graph, { isLowered: ({ op }) => op !== softCap, platform: 'p' });
  expect(decomposed.nodes.map((node) => node.kind === 'op' && node.op)).toEqual([ops.divScalar, ops.tanh, ops.mulScalar, ops.add]);
});

/** The ops that a decomposition may end in; all others are decomposed too. */
test.each<[string, (x: Tensor, w: Tensor) => Tensor]>([
  ['rmsNorm', (x, w) => ops.rmsNorm({ x, weight: w }, { epsilon: 1e-5 })],
  ['sigmoid', (x) => x.sigmoid()],
  ['reduceMean', (x) => x.reduceMean()],
  ['softmax', (x) => x.softmax()],
  ['linear', (x, w) => ops.linear({ x, weight: w.reshape(1, 4), bias: null })],
])('%s computes the same by its decomposition', async (name, call) => {
  const captured = captureModel(new Layer(softCap), {
    inputs: { x: { dtype: 'float32', dims: dimsOf([2, 3, 4]) }, w: { dtype: 'float32', dims: dimsOf([4]) } },
    call: (_model, { x, w }) => ({ y: call(x, w) }),
  });
  const graph = decomposeOps(captured.graph, { isLowered: ({ op }) => op.decompose === null, platform: 'p' });
  expect(graph.nodes.every((node) => node.kind === 'op' && node.op.name !== name)).toBe(true);
  const run = async (model: CapturedModel) => {
    using program = await new InterpreterBackend().compile(model, compileOptions);
    const x = { dtype: 'float32', dims: [2, 3, 4], data: Float32Array.from({ length: 24 }, (_, i) => Math.sin(i)) } as const;
    const w = { dtype: 'float32', dims: [4], data: Float32Array.of(1, 0.5, -1, 2) } as const;
    return Array.from((await program.run({ firstSlot: 0, batch: 1, inputs: { x, w } }))['y']!.data, Number);
  };
  const [expected, actual] = [await run(captured), await run({ ...captured, graph })];
  for (const [i, value] of expected.entries()) expect(actual[i]).toBeCloseTo(value, 5);
});
