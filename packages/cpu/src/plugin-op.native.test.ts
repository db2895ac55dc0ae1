import { defineOp, type OpNode, ops } from '@graft/graph';
import type { OnnxLowering } from '@graft/onnx-export';
import { expect, test } from 'vitest';
import { z } from 'zod';
import { both, expectSame, float32, holder, specOf } from '../../../tests/compare.fixture.ts';
import { OrtBackend } from './ort-backend.ts';

/** `cap * tanh(x / cap)`: an op that a plugin brings. */
const declaration = {
  inputs: ['x'],
  plugin: 'acme',
  attributes: z.strictObject({ cap: z.number().positive() }),
  infer: ({ x }: { x: Parameters<typeof ops.tanh.inferTypes>[0][string] & object }) => x,
} as const;
const softCap = defineOp({ ...declaration, name: 'softCap', decompose: ({ x }, { cap }) => x.div(cap).tanh().mul(cap) });
const kernelOnly = defineOp({ ...declaration, name: 'kernelOnly', kernel: ({ x }) => [x] });

/** Wrong on purpose, so that its use shows: the cap is added. */
const lowering: OnnxLowering<typeof softCap> = {
  op: softCap,
  platform: 'cpu',
  supports: ({ attributes }) => attributes.cap > 1,
  lower: ({ inputs: { x }, attributes: { cap } }, c) => [c.op('Add', [c.name(x), c.constant('float32', [], [cap])])],
};

async function programs(cap: number, lowerings: readonly OnnxLowering[], op = softCap) {
  const inputs = { x: specOf('float32', 'b', 4) };
  return both(holder({}), inputs, (_, { x }) => ({ y: op({ x }, { cap }) }), undefined, new OrtBackend({ lowerings }));
}

test("a plugin's op runs on cpu by its decomposition", async () => {
  using run = await programs(2, []);
  await expectSame(run, { x: float32([3, 4]) });
});

test("a plugin's op runs on cpu by its own lowering, of which the one with the highest priority is taken", async () => {
  const x = float32([3, 4]);
  using run = await programs(2, [lowering, { ...lowering, platform: 'hpu', priority: 9 }]);
  const { y } = await run.actual.run({ firstSlot: 0, batch: 1, inputs: { x } });
  expect(y!.data).toEqual((x.data as Float32Array).map((value) => value + 2));
  const third: OnnxLowering<typeof softCap> = {
    ...lowering,
    priority: 1,
    lower: ({ inputs: { x: input } }, c) => [c.op('Neg', [c.name(input)])],
  };
  using other = await programs(2, [lowering, third]);
  const negated = await other.actual.run({ firstSlot: 0, batch: 1, inputs: { x } });
  expect(negated['y']!.data).toEqual((x.data as Float32Array).map((value) => -value));
});

test('where its lowering does not support a node, the op is decomposed', async () => {
  using run = await programs(0.5, [lowering]);
  await expectSame(run, { x: float32([3, 4]) });
});

test('an op that cpu can neither lower nor decompose is one error with its place, name, plugin and platform', async () => {
  await expect(programs(2, [], kernelOnly)).rejects.toMatchObject({
    code: 'GRAFT_OP_NOT_LOWERED',
    what: expect.stringMatching(/"cpu" has no lowering of the op "kernelOnly" of plugin "acme"/),
  });
});

const fail = (): never => {
  throw new Error('no');
};
test.each([
  ['gives undefined', { lower: () => undefined }, /lowering for "cpu" gave undefined/],
  ['throws', { lower: fail }, /lowering for "cpu" threw/],
  ['lacks its function', { lower: undefined }, /lower \(undefined\)/],
  ['names no op', { op: undefined }, /op \(undefined\)/],
  ['cannot say what it supports', { supports: fail }, /supports for "cpu" threw/],
])('a lowering that %s is an error that says so', async (_name, parts, what) => {
  const run = programs(2, [{ ...lowering, ...parts } as never]);
  await expect(run).rejects.toMatchObject({ code: 'GRAFT_OP_FAULTY', what: expect.stringMatching(what) });
});

test("a plugin's lowering of one of our ops is taken in place of ours", async () => {
  const negated: OnnxLowering<typeof ops.floor> = {
    op: ops.floor,
    platform: 'cpu',
    lower: ({ inputs: { x } }, c) => [c.op('Neg', [c.name(x)])],
  };
  const backend = new OrtBackend({ lowerings: [negated] });
  using run = await both(holder({}), { x: specOf('float32', 2) }, (_, { x }) => ({ y: x.floor() }), undefined, backend);
  const { y } = await run.actual.run({
    firstSlot: 0,
    batch: 1,
    inputs: { x: { dtype: 'float32', dims: [2], data: Float32Array.of(1.5, 2) } },
  });
  expect(y!.data).toEqual(Float32Array.of(-1.5, -2));
  const node = { op: ops.floor } as unknown as OpNode;
  expect(backend.loweringOf(node)).toBe(negated);
});
