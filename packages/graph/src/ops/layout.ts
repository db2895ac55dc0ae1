import { z } from 'zod';
import { OpInputError } from '../errors.ts';
import { Dim, dimsOf, formatDims, productOf } from '../shape.ts';
import { defineOp } from './define-op.ts';

/** The same elements, row-major, in another shape. A symbolic dimension is passed on as a `Dim` taken from a tensor. */
export const reshape = defineOp({
  name: 'reshape',
  inputs: ['x'],
  attributes: z.strictObject({ dims: z.array(z.union([z.int().nonnegative(), z.custom<Dim>((dim) => dim instanceof Dim)])) }),
  infer({ x }, { dims }) {
    const target = dimsOf(dims);
    if (!productOf(target).equals(productOf(x.dims)))
      throw new OpInputError('reshape', `${formatDims(x.dims)} cannot become ${formatDims(target)}.`);
    return { dtype: x.dtype, dims: target };
  },
});

/** Cuts the last axis into pieces of the given sizes. */
export const split = defineOp({
  name: 'split',
  inputs: ['x'],
  list: true,
  attributes: z.strictObject({ sizes: z.array(z.int().positive()).min(1) }),
  infer({ x }, { sizes }) {
    const total = sizes.reduce((sum, size) => sum + size, 0);
    if (x.dims.at(-1)?.equals(total) !== true)
      throw new OpInputError('split', `The sizes add up to ${total}, the last axis of ${formatDims(x.dims)} does not.`);
    return sizes.map((size) => ({ dtype: x.dtype, dims: [...x.dims.slice(0, -1), Dim.of(size)] }));
  },
});

/** Rows of `x [..., hidden]`, seen as `[rows, hidden]`, in the order of `indices [count]` (int64). -> `[count, hidden]`. */
export const gatherRows = defineOp({
  name: 'gatherRows',
  inputs: ['x', 'indices'],
  attributes: z.strictObject({}),
  infer({ x, indices }) {
    if (indices.dtype !== 'int64' || indices.dims.length !== 1) throw new OpInputError('gatherRows', 'The indices must be int64 [count].');
    return { dtype: x.dtype, dims: [indices.dims[0]!, x.dims.at(-1)!] };
  },
});

/** Zeros in the shape of `x`. */
export const zerosLike = defineOp({
  name: 'zerosLike',
  inputs: ['x'],
  attributes: z.strictObject({}),
  infer: ({ x }) => ({ dtype: x.dtype, dims: x.dims }),
});
