import { expect, expectTypeOf, test } from 'vitest';
import { captureModel } from './capture/capture.ts';
import type { OpNode } from './graph.ts';
import { Module } from './nn/module.ts';
import { Parameter } from './nn/parameter.ts';
import { dimsOf } from './shape.ts';
import type { Tensor } from './tensor.ts';

class Scaled extends Module {
  readonly weight = new Parameter([4]);
}

const x = { dtype: 'float32', dims: dimsOf([2, 4]) } as const;
const capture = (body: (x: Tensor, weight: Parameter) => unknown) =>
  captureModel(new Scaled(), { inputs: { x }, call: (model, inputs) => ({ y: body(inputs.x, model.weight) }) });
const opsOf = (...args: Parameters<typeof capture>) =>
  capture(...args).graph.nodes.map((node) => [(node as OpNode).op.name, (node as OpNode).attributes]);

test('methods of a tensor call the ops of their names', () => {
  expect(opsOf((x, weight) => x.add(1).div(8).floor().mul(weight).reshape(4, 2).permute(1, 0))).toEqual([
    ['addScalar', { value: 1 }],
    ['divScalar', { value: 8 }],
    ['floor', {}],
    ['mul', {}],
    ['reshape', { dims: [4, 2] }],
    ['permute', { axes: [1, 0] }],
  ]);
});

test('split gives as many tensors as sizes, also to the compiler', () => {
  capture((x) => {
    const pieces = x.split(1, 3);
    expectTypeOf(pieces).toEqualTypeOf<readonly [Tensor, Tensor]>();
    expect(pieces.map(({ dims }) => dims[1]!.value)).toEqual([1, 3]);
    return pieces[0];
  });
});

test.each<[string, (x: Tensor) => unknown]>([
  ['arithmetic', (x) => (x as unknown as number) * 2],
  ['a comparison', (x) => (x as unknown as number) > 2],
  ['a template string', (x) => `${x as unknown as string}`],
  ['toString', (x) => x.toString()],
  ['valueOf', (x) => x.valueOf()],
  ['iteration', (x) => [...(x as unknown as number[])]],
  ['JSON', (x) => JSON.stringify({ x })],
  ['toFloat32', (x) => (x as unknown as Parameter).toFloat32()],
])('a tensor has no values for %s, and says so', (_name, use) => {
  expect(() => capture((x) => use(x))).toThrow(
    expect.objectContaining({ code: 'GRAFT_TENSOR_COERCED', message: expect.stringContaining('float32[2, 4]') }),
  );
});
