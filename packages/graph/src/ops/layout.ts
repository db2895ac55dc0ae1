import { z } from 'zod';
import { OpInputError } from '../errors.ts';
import { Dim, dimsOf, expectDim, formatDims, productOf, sameDims } from '../shape.ts';
import { defineOp } from './define-op.ts';

/** The same elements, row-major, in another shape. Pass a symbolic dimension as a `Dim` taken from a tensor. */
export const reshape = defineOp({
  name: 'reshape',
  inputs: ['x'],
  samples: [{ attributes: { dims: [3, 16] } }],
  attributes: z.strictObject({
    dims: z.array(z.union([z.int().nonnegative(), z.custom<Dim>((dim) => dim instanceof Dim, 'must be a number or a Dim')])),
  }),
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
  samples: [{ attributes: { sizes: [3, 5] } }],
  decompose({ x }, { sizes }) {
    const starts = sizes.map((_, i) => sizes.slice(0, i).reduce((sum, size) => sum + size, 0));
    return sizes.map((size, i) => x.slice(x.rank - 1, starts[i]!, starts[i]! + size));
  },
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
  samples: [{ inputs: { indices: { dims: [4], dtype: 'int64', below: 6 } } }],
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

/** The axes of `x` in another order: axis i of the result is axis `axes[i]` of `x`. */
export const permute = defineOp({
  name: 'permute',
  inputs: ['x'],
  samples: [{ attributes: { axes: [2, 0, 1] } }],
  attributes: z.strictObject({ axes: z.array(z.int().nonnegative()) }),
  infer({ x }, { axes }) {
    const sorted = [...axes].sort((a, b) => a - b);
    if (axes.length !== x.dims.length || sorted.some((axis, i) => axis !== i))
      throw new OpInputError('permute', `[${axes.join(', ')}] is not an order of the ${x.dims.length} axes of ${formatDims(x.dims)}.`);
    return { dtype: x.dtype, dims: axes.map((axis) => x.dims[axis]!) };
  },
});

/** `a`, then `b` along an axis of static size; the other axes are the same in both. */
export const concat = defineOp({
  name: 'concat',
  inputs: ['a', 'b'],
  samples: [{ inputs: { b: { dims: [2, 5, 8] } }, attributes: { axis: 1 } }],
  attributes: z.strictObject({ axis: z.int().nonnegative() }),
  infer({ a, b }, { axis }) {
    const [first, second] = [a.dims[axis], b.dims[axis]];
    if (first?.isStatic !== true || second?.isStatic !== true)
      throw new OpInputError('concat', `Axis ${axis} of ${formatDims(a.dims)} or of ${formatDims(b.dims)} has no static size.`);
    if (a.dtype !== b.dtype) throw new OpInputError('concat', `The inputs are ${a.dtype} and ${b.dtype}.`);
    const dims = a.dims.with(axis, Dim.of(first.value + second.value));
    if (!sameDims(dims, b.dims.with(axis, dims[axis]!)))
      throw new OpInputError('concat', `${formatDims(a.dims)} and ${formatDims(b.dims)} differ in more than axis ${axis}.`);
    return { dtype: a.dtype, dims };
  },
});

/** Elements `start` up to, not including, `end` of an axis of static size. */
export const slice = defineOp({
  name: 'slice',
  inputs: ['x'],
  samples: [{ attributes: { axis: 2, start: 2, end: 5 } }],
  attributes: z.strictObject({ axis: z.int().nonnegative(), start: z.int().nonnegative(), end: z.int().positive() }),
  infer({ x }, { axis, start, end }) {
    const dim = x.dims[axis];
    if (dim?.isStatic !== true) throw new OpInputError('slice', `Axis ${axis} of ${formatDims(x.dims)} has no static size.`);
    if (start >= end || end > dim.value)
      throw new OpInputError('slice', `${start} to ${end} is not a part of axis ${axis} of ${formatDims(x.dims)}.`);
    return { dtype: x.dtype, dims: x.dims.with(axis, Dim.of(end - start)) };
  },
});

/**
 * `x [..., hidden]` with some rows replaced. Where `indices [...]` (int64) is 0 or more, the row is that of `rows [count, hidden]`; where it is
 * negative, the row of `x` stays. -> as `x`.
 */
export const replaceRows = defineOp({
  name: 'replaceRows',
  inputs: ['x', 'rows', 'indices'],
  samples: [{ inputs: { rows: { dims: [4, 8] }, indices: { dims: [2, 3], dtype: 'int64', below: 4 } } }],
  attributes: z.strictObject({}),
  infer({ x, rows, indices }) {
    if (indices.dtype !== 'int64' || !sameDims(indices.dims, x.dims.slice(0, -1)))
      throw new OpInputError(
        'replaceRows',
        `The indices are ${indices.dtype}${formatDims(indices.dims)}, expected int64, one for each row of ${formatDims(x.dims)}.`,
      );
    if (x.dtype !== 'float32' || rows.dtype !== 'float32' || rows.dims.length !== 2)
      throw new OpInputError('replaceRows', `Rows ${rows.dtype}${formatDims(rows.dims)} cannot stand in ${x.dtype}${formatDims(x.dims)}.`);
    expectDim("The last axis of replaceRows' rows", rows.dims[1], x.dims.at(-1));
    return { dtype: x.dtype, dims: x.dims };
  },
});
