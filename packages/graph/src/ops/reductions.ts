import { z } from 'zod';
import { OpInputError } from '../errors.ts';
import type { TensorType } from '../graph-recorder.ts';
import { Dim, expectDim, formatDims } from '../shape.ts';
import { broadcast, defineOp } from './define-op.ts';

const reduction = (name: string) =>
  ({
    name,
    inputs: ['x'],
    floats: ['x'],
    attributes: z.strictObject({}),
    infer({ x }: { x: TensorType }): TensorType {
      if (x.dims.length === 0) throw new OpInputError(name, 'The input has no axis.');
      return { dtype: x.dtype, dims: [...x.dims.slice(0, -1), Dim.of(1)] };
    },
  }) as const;

/** Sum over the last axis, which stays with size 1. float32. */
export const reduceSum = defineOp(reduction('reduceSum'));
/** Largest of the last axis, which stays with size 1. float32. */
export const reduceMax = defineOp(reduction('reduceMax'));
/** Mean over the last axis, which stays with size 1. float32. */
export const reduceMean = defineOp({ ...reduction('reduceMean'), decompose: ({ x }) => x.reduceSum().div(x.dim(-1).value) });

/** `exp(x) / sum(exp(x))` over the last axis, safe for large `x`. float32. */
export const softmax = defineOp({
  ...reduction('softmax'),
  infer({ x }) {
    reduction('softmax').infer({ x });
    return { dtype: x.dtype, dims: x.dims };
  },
  decompose({ x }) {
    const powers = x.sub(x.reduceMax()).exp();
    return powers.div(powers.reduceSum());
  },
});

/** Matrix products `a [..., m, k]` times `b [..., k, n]`, other axes with broadcasting. -> `[..., m, n]`. float32. */
export const matmul = defineOp({
  name: 'matmul',
  inputs: ['a', 'b'],
  floats: ['a', 'b'],
  attributes: z.strictObject({}),
  samples: [{ inputs: { b: { dims: [8, 5] } } }, { inputs: { b: { dims: [2, 8, 5] } } }],
  infer({ a, b }) {
    if (a.dims.length < 2 || b.dims.length < 2)
      throw new OpInputError(
        'matmul',
        `The inputs are ${formatDims(a.dims)} and ${formatDims(b.dims)}, expected two axes or more of each.`,
      );
    expectDim("The last axis of matmul's first input", a.dims.at(-1), b.dims.at(-2));
    const outer = broadcast('matmul', a.dims.slice(0, -2), b.dims.slice(0, -2));
    return { dtype: a.dtype, dims: [...outer, a.dims.at(-2)!, b.dims.at(-1)!] };
  },
});
