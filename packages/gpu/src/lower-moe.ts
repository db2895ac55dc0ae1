import type { Tensor } from '@graft/ggml';
import type { NodeOf, ops, Value } from '@graft/graph';
import type { LoweringContext } from './lowering-context.ts';

/** Mixture of experts by products with chosen matrices. */
export function lowerFusedMoe({ inputs, attributes }: NodeOf<typeof ops.fusedMoe>, c: LoweringContext): Tensor {
  const { builder } = c;
  const { topK, routing, activation } = attributes;
  const [experts, , hidden] = c.dims(inputs.w13) as [number, number, number];
  const tokens = c.count(inputs.x) / hidden;
  const logits = c.shaped(inputs.routerLogits, tokens, experts);
  const scores = routing === 'softmax' ? builder.unary('softmax', logits) : logits;
  const chosen = builder.argsort(scores, topK);
  const shares = builder.getRows(builder.reshape(scores, [1, experts, tokens]), chosen); // [1, topK, tokens]
  const weights = weightsOf(shares, routing, c);
  const all = c.shaped(inputs.x, tokens, 1, hidden);
  const x = routing === 'sigmoidInput' ? builder.binary('mul', builder.repeat(all, [hidden, topK, tokens]), weights) : all;
  const products = (weights: Value, rows: Tensor, bias: Value | null): Tensor[] => {
    let start = 0;
    return c.factors(weights).map((weight) => {
      const result = builder.matmulChosen(weight, rows, chosen);
      const added = bias === null ? null : c.packed(c.columns(bias, start, (start += weight.ne[1])));
      return added === null ? result : builder.addChosen(result, added, chosen);
    });
  };
  const gateUp = products(inputs.w13, x, inputs.w13Bias); // [2 * intermediate, topK, tokens] together
  const results = joined(products(inputs.w2, activated(gateUp, activation, c), inputs.w2Bias), c); // [hidden, topK, tokens]
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

function activated(gateUp: readonly Tensor[], activation: Attributes['activation'], c: LoweringContext): Tensor {
  const [gate, up] = gateUp.length === 2 && gateUp[0]!.ne[0] === gateUp[1]!.ne[0] ? gateUp : halves(joined(gateUp, c), c);
  return activation.kind === 'silu' ? c.builder.swiglu(gate!, up!) : c.builder.swigluOai(gate!, up!, activation.alpha, activation.limit);
}

const joined = (pieces: readonly Tensor[], { builder }: LoweringContext): Tensor =>
  pieces.reduce((all, piece) => builder.concat(all, piece, 0));

function halves(x: Tensor, { builder }: LoweringContext): Tensor[] {
  const [width, chosen, tokens] = x.ne;
  return [0, width / 2].map((start) => builder.view(x, [width / 2, chosen, tokens], x.nb, start * 4));
}
