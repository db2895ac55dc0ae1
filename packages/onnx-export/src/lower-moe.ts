import type { InputsOf, ops, Value } from '@graft/graph';
import { elementTypeFacts, int, ints } from '@graft/onnxruntime';
import { matMul, siluAndMul } from './lower-matmul.ts';
import type { LoweringContext, Name } from './lowering-context.ts';

/**
 * Mixture of experts with plain matrix products: the tokens are sorted by expert and cut into one slice an expert, most of which have no rows.
 * An idle expert costs its few empty nodes; every weight is a constant of the top-level graph, so that it is packed once and read only when used.
 */
export function lowerFusedMoe({ x, routerLogits, w13, w2 }: InputsOf<typeof ops.fusedMoe, Value>, topK: number, c: LoweringContext): Name {
  const experts = w13.dims[0]!.value;
  const hidden = x.dims.at(-1)!.value;
  const intermediate = w2.dims[2]!.value;
  const { rows, expertOfRow } = routedRows(c, c.name(x), c.name(routerLogits), hidden, topK);

  const order = sortedOrder(c, expertOfRow);
  const counts = countEach(c, expertOfRow, experts);
  const sorted = gather(c, rows, order);
  const slices = experts === 1 ? [sorted] : c.node('Split', [sorted, counts], experts, { attributes: { axis: int(0) } });
  const results = slices.map((slice, expert) => {
    const gated = siluAndMul(c, matMul(c, { x: slice, rank: 2, weight: w13, expert }), intermediate);
    return matMul(c, { x: gated, rank: 2, weight: w2, expert });
  });
  const joined = experts === 1 ? results[0]! : c.op('Concat', results, { attributes: { axis: int(0) } });
  const inOrder = gather(c, joined, sortedOrder(c, order)); // sorting a permutation inverts it
  return topK === 1 ? inOrder : sumOfExperts(c, inOrder, hidden, topK);
}

/**
 * Mixture of experts as one batched product over all of them: each expert gets every token, scaled by the sigmoid of its logit where it was chosen and by
 * zero where not, and the results are added. Work and shapes do not depend on the routing, which is what a device of static graphs needs.
 */
export function lowerStaticMoe({ x, routerLogits, w13, w2 }: InputsOf<typeof ops.fusedMoe, Value>, topK: number, c: LoweringContext): Name {
  const axis = (value: number): Name => c.constant('int64', [1], [value]);
  const product = (rows: Name, weight: Value): Name =>
    c.op('FusedMatMul', [rows, c.name(weight)], { microsoft: true, attributes: { transB: int(1) } });
  const scales = c.op('Transpose', [chosenScores(c, c.name(routerLogits), w13.dims[0]!.value, topK)], {
    attributes: { perm: ints([1, 0]) },
  }); // [experts, tokens]
  const rows = c.op('Mul', [c.op('Unsqueeze', [c.name(x), axis(0)]), c.op('Unsqueeze', [scales, axis(2)])]); // [experts, tokens, hidden]
  const gated = siluAndMul(c, product(rows, w13), w2.dims[2]!.value); // [experts, tokens, intermediate]
  return c.op('ReduceSum', [product(gated, w2), axis(0)], { attributes: { keepdims: int(0) } });
}

/** The sigmoid of each logit that is among the `topK` largest of its token, 0 for the others. [tokens, experts]. */
function chosenScores(c: LoweringContext, logits: Name, experts: number, topK: number): Name {
  const attributes = { axis: int(-1), sorted: int(1) };
  const chosen = c.node('TopK', [logits, c.constant('int64', [1], [topK])], 2, { attributes })[1]!; // [tokens, topK]
  const ids = c.constant(
    'int64',
    [1, 1, experts],
    Array.from({ length: experts }, (_, i) => i),
  );
  const equal = c.op('Equal', [c.op('Unsqueeze', [chosen, c.constant('int64', [1], [2])]), ids]); // [tokens, topK, experts]
  const ones = c.op('Cast', [equal], { attributes: { to: int(elementTypeFacts('float32').code) } });
  const mask = c.op('ReduceSum', [ones, c.constant('int64', [1], [1])], { attributes: { keepdims: int(0) } });
  return c.op('Mul', [c.op('Sigmoid', [logits]), mask]);
}

/** One row for each token and chosen expert, scaled by the sigmoid of its logit. [tokens * topK, hidden] and [tokens * topK]. */
function routedRows(c: LoweringContext, x: Name, logits: Name, hidden: number, topK: number): { rows: Name; expertOfRow: Name } {
  const [values, chosen] = c.node('TopK', [logits, c.constant('int64', [1], [topK])], 2, { attributes: { axis: int(-1), sorted: int(1) } });
  const scores = c.op('Sigmoid', [values!]); // [tokens, topK]
  const expertOfRow = c.op('Reshape', [chosen!, c.constant('int64', [1], [-1])]);
  if (topK === 1) return { rows: c.op('Mul', [x, scores]), expertOfRow };
  const perExpert = c.op('Mul', [
    c.op('Unsqueeze', [x, c.constant('int64', [1], [1])]),
    c.op('Unsqueeze', [scores, c.constant('int64', [1], [2])]),
  ]); // [tokens, topK, hidden]
  return { rows: c.op('Reshape', [perExpert, c.constant('int64', [2], [-1, hidden])]), expertOfRow };
}

/** Indices that sort `keys`, equal ones in their order. */
function sortedOrder(c: LoweringContext, keys: Name): Name {
  const count = c.op('Shape', [keys]);
  return c.node('TopK', [keys, count], 2, { attributes: { axis: int(0), largest: int(0), sorted: int(1) } })[1]!;
}

/** How many of `keys` are each of 0 to `experts` - 1. */
function countEach(c: LoweringContext, keys: Name, experts: number): Name {
  const ids = c.constant(
    'int64',
    [1, experts],
    Array.from({ length: experts }, (_, i) => i),
  );
  const equal = c.op('Equal', [c.op('Unsqueeze', [keys, c.constant('int64', [1], [1])]), ids]);
  const ones = c.op('Cast', [equal], { attributes: { to: int(elementTypeFacts('int64').code) } });
  return c.op('ReduceSum', [ones, c.constant('int64', [1], [0])], { attributes: { keepdims: int(0) } });
}

function gather(c: LoweringContext, rows: Name, indices: Name): Name {
  return c.op('Gather', [rows, indices], { attributes: { axis: int(0) } });
}

function sumOfExperts(c: LoweringContext, rows: Name, hidden: number, topK: number): Name {
  const perToken = c.op('Reshape', [rows, c.constant('int64', [3], [-1, topK, hidden])]);
  return c.op('ReduceSum', [perToken, c.constant('int64', [1], [1])], { attributes: { keepdims: int(0) } });
}
