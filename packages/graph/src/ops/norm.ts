import { z } from 'zod';
import { expectDim } from '../shape.ts';
import { defineOp } from './define-op.ts';

const attributes = z.strictObject({ epsilon: z.number().positive() });

/** Root-mean-square norm over the last axis. `x [..., hidden]`, `weight [hidden]` or none -> `[..., hidden]`. Zhang and Sennrich 2019. */
export const rmsNorm = defineOp({
  name: 'rmsNorm',
  inputs: ['x'],
  floats: ['x'],
  optional: ['weight'],
  attributes,
  samples: [{ inputs: { weight: { dims: [8] } }, attributes: { epsilon: 1e-5 } }, { attributes: { epsilon: 1e-5 } }],
  decompose({ x, weight }, { epsilon }) {
    const normed = x.div(x.mul(x).reduceMean().add(epsilon).sqrt());
    return weight === null ? normed : normed.mul(weight);
  },
  infer({ x, weight }) {
    if (weight !== null) expectDim("rmsNorm's weight", weight.dims[0], x.dims.at(-1));
    return { dtype: x.dtype, dims: x.dims };
  },
});

/** `sum = x + residual` and its root-mean-square norm. `[..., hidden]` each -> `[normed, sum]`. vLLM: `RMSNorm.forward(x, residual)`. */
export const addRmsNorm = defineOp({
  name: 'addRmsNorm',
  inputs: ['x', 'residual', 'weight'],
  floats: ['x', 'residual'],
  attributes,
  list: true,
  samples: [{ inputs: { weight: { dims: [8] } }, attributes: { epsilon: 1e-5 } }],
  decompose({ x, residual, weight }, { epsilon }) {
    const sum = x.add(residual);
    return [rmsNorm({ x: sum, weight }, { epsilon }), sum];
  },
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
  floats: ['x'],
  attributes,
  samples: [{ inputs: { weight: { dims: [8] }, bias: { dims: [8] } }, attributes: { epsilon: 1e-5 } }],
  decompose({ x, weight, bias }, { epsilon }) {
    const centred = x.sub(x.reduceMean());
    return centred.div(centred.mul(centred).reduceMean().add(epsilon).sqrt()).mul(weight).add(bias);
  },
  infer({ x, weight, bias }) {
    expectDim("layerNorm's weight", weight.dims[0], x.dims.at(-1));
    expectDim("layerNorm's bias", bias.dims[0], x.dims.at(-1));
    return { dtype: x.dtype, dims: x.dims };
  },
});
