import type { Tensor } from '@graft/ggml';
import type { NodeOf, ops } from '@graft/graph';
import type { LoweringContext } from './lowering-context.ts';

/** Mixture of experts by products with chosen matrices. */
export function lowerFusedMoe({ inputs, attributes }: NodeOf<typeof ops.fusedMoe>, c: LoweringContext): Tensor {
  const { builder } = c;
  const { topK, routing, activation } = attributes;
  const [w13, w2] = [c.matrix(inputs.w13), c.matrix(inputs.w2)];
  const [hidden, experts] = [w13.ne[0], w13.ne[2]];
  const tokens = c.count(inputs.x) / hidden;
  const logits = c.shaped(inputs.routerLogits, tokens, experts);
  const scores = routing === 'softmax' ? builder.unary('softmax', logits) : logits;
  const chosen = builder.argsort(scores, topK);
  const shares = builder.getRows(builder.reshape(scores, [1, experts, tokens]), chosen); // [1, topK, tokens]
  const weights = weightsOf(shares, routing, c);
  const all = c.shaped(inputs.x, tokens, 1, hidden);
  const x = routing === 'sigmoidInput' ? builder.binary('mul', builder.repeat(all, [hidden, topK, tokens]), weights) : all;
  const product = (weight: Tensor, rows: Tensor, bias: typeof inputs.w13Bias): Tensor => {
    const result = builder.matmulChosen(weight, rows, chosen);
    return bias === null ? result : builder.addChosen(result, c.shaped(bias, ...c.dims(bias)), chosen);
  };
  const gateUp = product(w13, x, inputs.w13Bias); // [2 * intermediate, topK, tokens]
  const results = product(w2, activated(gateUp, activation, c), inputs.w2Bias); // [hidden, topK, tokens]
  const weighted = routing === 'sigmoidInput' ? results : builder.binary('mul', results, weights);
  const [, row, token] = weighted.nb;
  const parts = Array.from({ length: topK }, (_, i) =>
    builder.view(weighted, [hidden, tokens], [4, token, token * tokens, token * tokens], i * row),
  );
  return parts.reduce((sum, part) => builder.binary('add', sum, part));
}

type Attributes = NodeOf<typeof ops.fusedMoe>['attributes'];

function weightsOf(shares: Tensor, routing: Attributes['routing'], { builder }: LoweringContext): Tensor {
  if (routing === 'softmax') return shares;
  if (routing === 'sigmoidInput') return builder.unary('sigmoid', shares);
  const [, topK, tokens] = shares.ne;
  return builder.reshape(builder.unary('softmax', builder.reshape(shares, [topK, tokens])), [1, topK, tokens]);
}

function activated(gateUp: Tensor, activation: Attributes['activation'], { builder }: LoweringContext): Tensor {
  if (activation.kind === 'silu') return builder.swiglu(gateUp);
  const [width, chosen, tokens] = gateUp.ne;
  const half = (start: number): Tensor => builder.view(gateUp, [width / 2, chosen, tokens], gateUp.nb, start * 4);
  return builder.swigluOai(half(0), half(width / 2), activation.alpha, activation.limit);
}
