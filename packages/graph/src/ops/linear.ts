import { z } from 'zod';
import { OpInputError } from '../errors.ts';
import { expectDim } from '../shape.ts';
import { defineOp } from './define-op.ts';

/** `x [..., in]` times the transpose of `weight [out, in]`, plus `bias [out]`. -> `[..., out]`. */
export const linear = defineOp({
  name: 'linear',
  inputs: ['x', 'weight'],
  optional: ['bias'],
  attributes: z.strictObject({}),
  infer({ x, weight, bias }) {
    if (weight.dims.length !== 2) throw new OpInputError('linear', `The weight has rank ${weight.dims.length}, expected 2.`);
    expectDim("The last axis of linear's input", x.dims.at(-1), weight.dims[1]);
    if (bias !== null) expectDim("linear's bias", bias.dims[0], weight.dims[0]);
    return { dtype: x.dtype, dims: [...x.dims.slice(0, -1), weight.dims[0]!] };
  },
});

/** Rows of `weight [vocabulary, hidden]` for `ids [...]` (int64). -> `[..., hidden]`. */
export const embedding = defineOp({
  name: 'embedding',
  inputs: ['ids', 'weight'],
  attributes: z.strictObject({}),
  infer({ ids, weight }) {
    if (ids.dtype !== 'int64') throw new OpInputError('embedding', `The ids are ${ids.dtype}, expected int64.`);
    return { dtype: 'float32', dims: [...ids.dims, weight.dims[1]!] };
  },
});
