import { z } from 'zod';
import { expectDim } from '../shape.ts';
import { defineOp } from './define-op.ts';

const attributes = z.strictObject({ epsilon: z.number().positive() });

/** Root-mean-square norm over the last axis. `x [..., hidden]`, `weight [hidden]` or none -> `[..., hidden]`. Zhang and Sennrich 2019. */
export const rmsNorm = defineOp({
  name: 'rmsNorm',
  inputs: ['x'],
  optional: ['weight'],
  attributes,
  infer({ x, weight }) {
    if (weight !== null) expectDim("rmsNorm's weight", weight.dims[0], x.dims.at(-1));
    return { dtype: x.dtype, dims: x.dims };
  },
});

/** `sum = x + residual` and its root-mean-square norm. `[..., hidden]` each -> `[normed, sum]`. vLLM: `RMSNorm.forward(x, residual)`. */
export const addRmsNorm = defineOp({
  name: 'addRmsNorm',
  inputs: ['x', 'residual', 'weight'],
  attributes,
  list: true,
  infer({ x, residual, weight }) {
    expectDim("addRmsNorm's weight", weight.dims[0], x.dims.at(-1));
    expectDim("addRmsNorm's residual", residual.dims.at(-1), x.dims.at(-1));
    const type = { dtype: x.dtype, dims: x.dims };
    return [type, type] as const;
  },
});

/** Norm by mean and variance over the last axis. `x [..., hidden]`, `weight` and `bias [hidden]` -> `[..., hidden]`. Ba, Kiros and Hinton 2016. */
export const layerNorm = defineOp({
  name: 'layerNorm',
  inputs: ['x', 'weight', 'bias'],
  attributes,
  infer({ x, weight, bias }) {
    expectDim("layerNorm's weight", weight.dims[0], x.dims.at(-1));
    expectDim("layerNorm's bias", bias.dims[0], x.dims.at(-1));
    return { dtype: x.dtype, dims: x.dims };
  },
});
