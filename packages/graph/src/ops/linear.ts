import { z } from 'zod';
import { OpInputError } from '../errors.ts';
import { expectDim, productOf } from '../shape.ts';
import { defineOp } from './define-op.ts';
import { gatherRows } from './layout.ts';

/** `x [..., in]` times the transpose of `weight [out, in]`, plus `bias [out]`. -> `[..., out]`. */
export const linear = defineOp({
  name: 'linear',
  inputs: ['x', 'weight'],
  floats: ['x'],
  optional: ['bias'],
  samples: [
    { inputs: { weight: { dims: [5, 8], isWeight: true }, bias: { dims: [5], isWeight: true } } },
    { inputs: { weight: { dims: [5, 8] } } },
  ],
  decompose({ x, weight, bias }) {
    const product = x.matmul(weight.permute(1, 0));
    return bias === null ? product : product.add(bias);
  },
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
  samples: [{ inputs: { ids: { dims: [2, 3], dtype: 'int64', below: 7 }, weight: { dims: [7, 8], isWeight: true } } }],
  decompose: ({ ids, weight }) => gatherRows({ x: weight, indices: ids.reshape(productOf(ids.dims)) }).reshape(...ids.dims, weight.dim(1)),
  attributes: z.strictObject({}),
  infer({ ids, weight }) {
    if (ids.dtype !== 'int64') throw new OpInputError('embedding', `The ids are ${ids.dtype}, expected int64.`);
    return { dtype: 'float32', dims: [...ids.dims, weight.dims[1]!] };
  },
});
