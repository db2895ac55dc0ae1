import { z } from 'zod';
import { OpInputError } from '../errors.ts';
import { expectDim } from '../shape.ts';
import { defineOp } from './define-op.ts';

/**
 * A mixture of SwiGLU experts with Llama 4's routing: each token goes to the `topK` experts with the largest router logits,
 * its input to each is multiplied by the sigmoid of that logit, and the experts' outputs are added.
 * `x [tokens, hidden]`, `routerLogits [tokens, experts]`, `w13 [experts, 2 * intermediate, hidden]` (gate, then up),
 * `w2 [experts, hidden, intermediate]` -> `[tokens, hidden]`. Ties go to the lower expert. vLLM: `FusedMoE` with `Llama4MoE.custom_routing_function`.
 */
export const fusedMoe = defineOp({
  name: 'fusedMoe',
  inputs: ['x', 'routerLogits', 'w13', 'w2'],
  samples: [
    {
      inputs: {
        x: { dims: [5, 8] },
        routerLogits: { dims: [5, 3] },
        w13: { dims: [3, 8, 8], isWeight: true },
        w2: { dims: [3, 8, 4], isWeight: true },
      },
      attributes: { topK: 2 },
    },
  ],
  attributes: z.strictObject({ topK: z.int().positive() }),
  infer({ x, routerLogits, w13, w2 }, { topK }) {
    const experts = w13.dims[0];
    if (experts?.isStatic === true && topK > experts.value)
      throw new OpInputError('fusedMoe', `topK is ${topK}, there are ${experts.value} experts.`);
    expectDim("fusedMoe's w2", w2.dims[0], experts);
    expectDim("fusedMoe's router logits", routerLogits.dims.at(-1), w13.dims[0]);
    expectDim("fusedMoe's w13", w13.dims[2], x.dims.at(-1));
    expectDim("fusedMoe's w2", w2.dims[1], x.dims.at(-1));
    expectDim("fusedMoe's w2", w2.dims[2], w13.dims[1]!.dividedBy(2));
    return { dtype: x.dtype, dims: x.dims };
  },
});
