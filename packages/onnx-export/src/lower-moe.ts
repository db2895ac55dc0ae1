import type { AttributesOf, InputsOf, ops, Value } from '@graft/graph';
import { int, ints } from '@graft/onnxruntime';
import { gated, matMul, sliceOf } from './lower-matmul.ts';
import type { LoweringContext, Name } from './lowering-context.ts';

type Inputs = InputsOf<typeof ops.fusedMoe, Value>;
type Attributes = AttributesOf<typeof ops.fusedMoe>;

/**
 * Mixture of experts with one product for each expert: the tokens are sorted by expert and split into one slice for each, most of them empty.
 * An idle expert costs a few empty nodes. Every weight is a constant of the graph, so that it is packed once and read only when used.
 */
export function lowerFusedMoe({ x, routerLogits, w13, w2, w13Bias, w2Bias }: Inputs, attributes: Attributes, c: LoweringContext): Name {
  const { topK, routing, activation } = attributes;
  const experts = w13.dims[0]!.value;
  const hidden = x.dims.at(-1)!.value;
  const intermediate = w2.dims[2]!.value;
  const { weights, chosen } = routed(c, c.name(routerLogits), topK, routing);
  const expertOfRow = c.op('Reshape', [chosen, c.int64s([-1])]);
  const scaled = routing === 'sigmoidInput' ? scaledRows(c, c.name(x), weights, hidden, topK) : null;

  const order = sortedOrder(c, expertOfRow);
  const counts = countEach(c, expertOfRow, experts);
  const sorted = scaled === null ? c.gather(c.name(x), c.op('Div', [order, c.constant('int64', [], [topK])])) : c.gather(scaled, order);
  const slices = experts === 1 ? [sorted] : c.node('Split', [sorted, counts], experts, { attributes: { axis: int(0) } });
  const biasOf = (bias: Value | null, expert: number): Name | null => bias && sliceOf(c, bias, expert);
  const results = slices.map((slice, expert) => {
    const gateUp = matMul(c, { x: slice, rank: 2, weight: w13, expert, bias: biasOf(w13Bias, expert) });
    const active = gated(c, gateUp, intermediate, activation);
    return matMul(c, { x: active, rank: 2, weight: w2, expert, bias: biasOf(w2Bias, expert) });
  });
  const joined = experts === 1 ? results[0]! : c.concat(results);
  const inOrder = c.gather(joined, sortedOrder(c, order)); // sorting a permutation inverts it
  const weighted = routing === 'sigmoidInput' ? inOrder : c.op('Mul', [inOrder, c.op('Reshape', [weights, c.int64s([-1, 1])])]);
  return topK === 1 ? weighted : sumOfExperts(c, weighted, hidden, topK);
}

/**
 * Mixture of experts as one batched product: each expert gets every token, and has a weight of zero for those that did not choose it. The results are added.
 * Work and shapes do not depend on the routing, as a device of static shapes needs.
 */
export function lowerStaticMoe({ x, routerLogits, w13, w2, w13Bias, w2Bias }: Inputs, attributes: Attributes, c: LoweringContext): Name {
  const { topK, routing, activation } = attributes;
  const axis = (value: number): Name => c.int64s([value]);
  const product = (rows: Name, weight: Value, bias: Value | null): Name => {
    const result = c.op('FusedMatMul', [rows, c.name(weight)], { microsoft: true, attributes: { transB: int(1) } });
    return bias === null ? result : c.op('Add', [result, c.op('Unsqueeze', [c.name(bias), axis(1)])]);
  };
  const { weights, chosen } = routed(c, c.name(routerLogits), topK, routing);
  const mask = oneHot(c, chosen, 2, w13.dims[0]!.value, 'float32'); // [tokens, topK, experts]
  const ofChosen = c.op('Mul', [mask, c.op('Unsqueeze', [weights, axis(2)])]);
  const ofExperts = c.op('ReduceSum', [ofChosen, axis(1)], { attributes: { keepdims: int(0) } }); // [tokens, experts]
  const scales = c.op('Unsqueeze', [c.op('Transpose', [ofExperts], { attributes: { perm: ints([1, 0]) } }), axis(2)]); // [experts, tokens, 1]
  const ofAll = c.op('Unsqueeze', [c.name(x), axis(0)]);
  const rows = routing === 'sigmoidInput' ? c.op('Mul', [ofAll, scales]) : ofAll; // [experts or 1, tokens, hidden]
  const active = gated(c, product(rows, w13, w13Bias), w2.dims[2]!.value, activation); // [experts, tokens, intermediate]
  const results = product(active, w2, w2Bias);
  return c.op('ReduceSum', [routing === 'sigmoidInput' ? results : c.op('Mul', [results, scales]), axis(0)], {
    attributes: { keepdims: int(0) },
  });
}

/** The experts that each token chooses, and the weight of each: of its input under `sigmoidInput`, else of its output. [tokens, topK] each. */
function routed(c: LoweringContext, logits: Name, topK: number, routing: Attributes['routing']): { weights: Name; chosen: Name } {
  const ofRow = { attributes: { axis: int(-1) } };
  const scores = routing === 'softmax' ? c.op('Softmax', [logits], ofRow) : logits;
  const [values, chosen] = c.node('TopK', [scores, c.int64s([topK])], 2, { attributes: { axis: int(-1), sorted: int(1) } }) as [Name, Name];
  if (routing === 'softmax') return { weights: values, chosen };
  return { weights: routing === 'sigmoidInput' ? c.op('Sigmoid', [values]) : c.op('Softmax', [values], ofRow), chosen };
}

/** A row for each token and chosen expert: the token's, multiplied by the expert's weight. [tokens * topK, hidden]. */
function scaledRows(c: LoweringContext, x: Name, weights: Name, hidden: number, topK: number): Name {
  if (topK === 1) return c.op('Mul', [x, weights]);
  const perExpert = c.op('Mul', [c.op('Unsqueeze', [x, c.int64s([1])]), c.op('Unsqueeze', [weights, c.int64s([2])])]); // [tokens, topK, hidden]
  return c.op('Reshape', [perExpert, c.int64s([-1, hidden])]);
}

/** Indices that sort `keys`. Equal keys keep their order. */
function sortedOrder(c: LoweringContext, keys: Name): Name {
  const count = c.op('Shape', [keys]);
  return c.node('TopK', [keys, count], 2, { attributes: { axis: int(0), largest: int(0), sorted: int(1) } })[1]!;
}

/** The number of keys for each expert. [experts]. */
function countEach(c: LoweringContext, keys: Name, experts: number): Name {
  return c.op('ReduceSum', [oneHot(c, keys, 1, experts, 'int64'), c.int64s([0])], { attributes: { keepdims: int(0) } });
}

/** 1 where an expert is the key, 0 elsewhere. `keys` has `rank` axes; the experts are a new last axis. */
function oneHot(c: LoweringContext, keys: Name, rank: number, experts: number, type: 'float32' | 'int64'): Name {
  const ids = c.int64s(Array.from({ length: experts }, (_, i) => i));
  return c.cast(c.op('Equal', [c.op('Unsqueeze', [keys, c.int64s([rank])]), ids]), type);
}

function sumOfExperts(c: LoweringContext, rows: Name, hidden: number, topK: number): Name {
  const perToken = c.op('Reshape', [rows, c.int64s([-1, topK, hidden])]);
  return c.op('ReduceSum', [perToken, c.int64s([1])], { attributes: { keepdims: int(0) } });
}
