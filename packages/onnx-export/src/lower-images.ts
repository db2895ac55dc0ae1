import { float, int, ints } from '@graft/onnxruntime';
import type { Lowering } from './lowerings.ts';

export const permute: Lowering<'permute'> = ({ inputs: { x }, attributes: { axes } }, c) => [
  c.op('Transpose', [c.name(x)], { attributes: { perm: ints(axes) } }),
];

export const concat: Lowering<'concat'> = ({ inputs: { a, b }, attributes: { axis } }, c) => [
  c.op('Concat', [c.name(a), c.name(b)], { attributes: { axis: int(axis) } }),
];

export const slice: Lowering<'slice'> = ({ inputs: { x }, attributes: { axis, start, end } }, c) => [
  c.op('Slice', [c.name(x), ...[start, end, axis].map((value) => c.constant('int64', [1], [value]))]),
];

/** A row of zeros stands before the others for what is not replaced, so that there may be none. */
export const replaceRows: Lowering<'replaceRows'> = ({ inputs: { x, rows, indices } }, c) => {
  const hidden = rows.dims[1]!.value;
  const zeros = c.constant('float32', [1, hidden], new Array<number>(hidden).fill(0));
  const table = c.op('Concat', [zeros, c.name(rows)], { attributes: { axis: int(0) } });
  const kept = c.op('Max', [c.name(indices), c.constant('int64', [], [-1])]);
  const replaced = c.op('Gather', [table, c.op('Add', [kept, c.constant('int64', [], [1])])], { attributes: { axis: int(0) } });
  const stays = c.op('Less', [c.name(indices), c.constant('int64', [], [0])]);
  return [c.op('Where', [c.op('Unsqueeze', [stays, c.constant('int64', [1], [-1])]), c.name(x), replaced])];
};

export const selfAttention: Lowering<'selfAttention'> = ({ inputs: { query, key, value }, attributes: { numHeads, scale } }, c) => [
  c.op('MultiHeadAttention', [c.name(query), c.name(key), c.name(value)], {
    microsoft: true,
    attributes: { num_heads: int(numHeads), scale: float(scale) },
  }),
];
