import { z } from 'zod';
import { OpInputError } from '../errors.ts';
import { expectDim } from '../shape.ts';
import { defineOp } from './define-op.ts';
import { swigluOaiAndMul } from './elementwise.ts';

const sample = {
  x: { dims: [5, 8] },
  routerLogits: { dims: [5, 3] },
  w13: { dims: [3, 8, 8], isWeight: true },
  w2: { dims: [3, 8, 4], isWeight: true },
};
const biases = { w13Bias: { dims: [3, 8], isWeight: true }, w2Bias: { dims: [3, 8], isWeight: true } };
const activation = { kind: 'swigluOai', alpha: 1.702, limit: 0.5 };

/**
 * A mixture of gated experts. Each token goes to the `topK` experts with the largest router logits; ties go to the lower expert. `routing` gives each
 * chosen expert its weight:
 * - `sigmoidInput`: the expert's input is multiplied by the sigmoid of its logit (Llama 4);
 * - `softmax`: its output is multiplied by its share of the softmax over all experts (Qwen's MoE without `norm_topk_prob`);
 * - `softmaxOfChosen`: the same over the chosen ones, which is what renormalised shares are (Mixtral, gpt-oss, Qwen's MoE with `norm_topk_prob`).
 *
 * `x [tokens, hidden]`, `routerLogits [tokens, experts]`, `w13 [experts, 2 * intermediate, hidden]` (gate, then up),
 * `w2 [experts, hidden, intermediate]`, `w13Bias [experts, 2 * intermediate]`, `w2Bias [experts, hidden]` -> `[tokens, hidden]`. The activation is that of
 * `siluAndMul` or `swigluOaiAndMul`. vLLM: `FusedMoE`.
 */
export const fusedMoe = defineOp({
  name: 'fusedMoe',
  inputs: ['x', 'routerLogits', 'w13', 'w2'],
  floats: ['x', 'routerLogits'],
  optional: ['w13Bias', 'w2Bias'],
  samples: [
    { inputs: sample, attributes: { topK: 2 } },
    { inputs: sample, attributes: { topK: 2, routing: 'softmax' } },
    { inputs: { ...sample, ...biases }, attributes: { topK: 2, routing: 'softmaxOfChosen', activation } },
    { inputs: { ...sample, ...biases }, attributes: { topK: 1, routing: 'softmax' } },
  ],
  attributes: z.strictObject({
    topK: z.int().positive(),
    routing: z.enum(['sigmoidInput', 'softmax', 'softmaxOfChosen']).default('sigmoidInput'),
    activation: z
      .discriminatedUnion('kind', [
        z.strictObject({ kind: z.literal('silu') }),
        swigluOaiAndMul.attributes.extend({ kind: z.literal('swigluOai') }),
      ])
      .default({ kind: 'silu' }),
  }),
  infer({ x, routerLogits, w13, w2, w13Bias, w2Bias }, { topK }) {
    const experts = w13.dims[0];
    if (experts?.isStatic === true && topK > experts.value)
      throw new OpInputError('fusedMoe', `topK is ${topK}, there are ${experts.value} experts.`);
    expectDim("fusedMoe's w2", w2.dims[0], experts);
    expectDim("fusedMoe's router logits", routerLogits.dims.at(-1), w13.dims[0]);
    expectDim("fusedMoe's w13", w13.dims[2], x.dims.at(-1));
    expectDim("fusedMoe's w2", w2.dims[1], x.dims.at(-1));
    expectDim("fusedMoe's w2", w2.dims[2], w13.dims[1]!.dividedBy(2));
    for (const [bias, weight] of [
      [w13Bias, w13],
      [w2Bias, w2],
    ] as const)
      for (const axis of [0, 1]) if (bias !== null) expectDim('A bias of fusedMoe', bias.dims[axis], weight.dims[axis]);
    return { dtype: x.dtype, dims: x.dims };
  },
});
