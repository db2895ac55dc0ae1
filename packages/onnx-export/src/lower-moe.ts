import type { InputsOf, ops, Value } from '@graft/graph';
import { int, ints } from '@graft/onnxruntime';
import { matMul, siluAndMul } from './lower-matmul.ts';
import type { LoweringContext, Name } from './lowering-context.ts';

/**
 * Mixture of experts with one product for each expert: the tokens are sorted by expert and split into one slice for each, most of them empty.
 * An idle expert costs a few empty nodes. Every weight is a constant of the graph, so that it is packed once and read only when used.
 */
export function lowerFusedMoe({ x, routerLogits, w13, w2 }: InputsOf<typeof ops.fusedMoe, Value>, topK: number, c: LoweringContext): Name {
  const experts = w13.dims[0]!.value;
  const hidden = x.dims.at(-1)!.value;
  const intermediate = w2.dims[2]!.value;
  const { rows, expertOfRow } = routedRows(c, c.name(x), c.name(routerLogits), hidden, topK);

  const order = sortedOrder(c, expertOfRow);
  const counts = countEach(c, expertOfRow, experts);
  const sorted = c.gather(rows, order);
  const slices = experts === 1 ? [sorted] : c.node('Split', [sorted, counts], experts, { attributes: { axis: int(0) } });
  const results = slices.map((slice, expert) => {
    const gated = siluAndMul(c, matMul(c, { x: slice, rank: 2, weight: w13, expert }), intermediate);
    return matMul(c, { x: gated, rank: 2, weight: w2, expert });
  });
  const joined = experts === 1 ? results[0]! : c.concat(results);
  const inOrder = c.gather(joined, sortedOrder(c, order)); // sorting a permutation inverts it
  return topK === 1 ? inOrder : sumOfExperts(c, inOrder, hidden, topK);
}

/**
 * Mixture of experts as one batched product: each expert gets every token, scaled by the sigmoid of its logit if the expert is chosen and by zero otherwise.
 * The results are added. Work and shapes do not depend on the routing, as a device of static shapes needs.
 */
export function lowerStaticMoe({ x, routerLogits, w13, w2 }: InputsOf<typeof ops.fusedMoe, Value>, topK: number, c: LoweringContext): Name {
  const axis = (value: number): Name => c.int64s([value]);
  const product = (rows: Name, weight: Value): Name =>
    c.op('FusedMatMul', [rows, c.name(weight)], { microsoft: true, attributes: { transB: int(1) } });
  const scales = c.op('Transpose', [chosenScores(c, c.name(routerLogits), w13.dims[0]!.value, topK)], {
    attributes: { perm: ints([1, 0]) },
  }); // [experts, tokens]
  const rows = c.op('Mul', [c.op('Unsqueeze', [c.name(x), axis(0)]), c.op('Unsqueeze', [scales, axis(2)])]); // [experts, tokens, hidden]
  const gated = siluAndMul(c, product(rows, w13), w2.dims[2]!.value); // [experts, tokens, intermediate]
  return c.op('ReduceSum', [product(gated, w2), axis(0)], { attributes: { keepdims: int(0) } });
}

/** The sigmoid of each logit among the `topK` largest of its token, 0 for the others. [tokens, experts]. */
function chosenScores(c: LoweringContext, logits: Name, experts: number, topK: number): Name {
  const attributes = { axis: int(-1), sorted: int(1) };
  const chosen = c.node('TopK', [logits, c.int64s([topK])], 2, { attributes })[1]!; // [tokens, topK]
  const mask = c.op('ReduceSum', [oneHot(c, chosen, 2, experts, 'float32'), c.int64s([1])], { attributes: { keepdims: int(0) } });
  return c.op('Mul', [c.op('Sigmoid', [logits]), mask]);
}

/** A row for each token and chosen expert, scaled by the sigmoid of its logit. [tokens * topK, hidden] and [tokens * topK]. */
function routedRows(c: LoweringContext, x: Name, logits: Name, hidden: number, topK: number): { rows: Name; expertOfRow: Name } {
  const [values, chosen] = c.node('TopK', [logits, c.int64s([topK])], 2, { attributes: { axis: int(-1), sorted: int(1) } });
  const scores = c.op('Sigmoid', [values!]); // [tokens, topK]
  const expertOfRow = c.op('Reshape', [chosen!, c.int64s([-1])]);
  if (topK === 1) return { rows: c.op('Mul', [x, scores]), expertOfRow };
  const perExpert = c.op('Mul', [c.op('Unsqueeze', [x, c.int64s([1])]), c.op('Unsqueeze', [scores, c.int64s([2])])]); // [tokens, topK, hidden]
  return { rows: c.op('Reshape', [perExpert, c.int64s([-1, hidden])]), expertOfRow };
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
