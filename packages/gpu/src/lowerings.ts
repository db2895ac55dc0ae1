import { blockOf, type Tensor } from '@graft/ggml';
import {
  type AttributesOf,
  chooseLowering,
  type NodeOf,
  type OpFacts,
  type OpLowering,
  type OpName,
  type OpNode,
  ops,
  type Value,
} from '@graft/graph';
import { attend, lowerAttention } from './lower-attention.ts';
import { lowerFusedMoe } from './lower-moe.ts';
import type { LoweringContext } from './lowering-context.ts';

/** Of an output: a tensor, tensors that lie next to each other along its last axis, or an input's value. */
export type Result = Tensor | readonly Tensor[] | Value;

/** Adds the nodes of an op. A reshape or the like gives an input's own `Value` in place of a tensor. Outputs that extend a cache in place are left out. */
type Lowering<K extends OpName> = (node: NodeOf<(typeof ops)[K]>, context: LoweringContext) => readonly Result[];

/** A plugin's lowering of an op for a platform of ggml. */
export type GgmlLowering<O = OpFacts> = OpLowering<LoweringContext, readonly Result[], O>;

type Unary = { inputs: { x: Value } };
type Binary = { inputs: { a: Value; b: Value }; outputs: readonly Value[] };

/** The lowerings of all built-in ops; `decompose` where ggml has nothing better than the smaller ops. */
export const lowerings: { readonly [K in OpName]: Lowering<K> | 'decompose' } = {
  add: binary('add'),
  sub: binary('sub'),
  mul: binary('mul'),
  div: binary('div'),
  max: (node, c) => [larger(node, c, 1)],
  min: (node, c) => [larger(node, c, -1)],
  less: ({ inputs: { a, b }, outputs }, c) => [c.builder.unary('step', combine('sub', b, a, outputs[0]!, c))],
  equal: ({ inputs: { a, b }, outputs }, c) => {
    const gap = c.builder.unary('abs', combine('sub', a, b, outputs[0]!, c));
    return [c.builder.scale(c.builder.unary('step', gap), -1, 1)];
  },
  where: ({ inputs: { condition, a, b }, outputs }, c) => {
    const dims = c.dims(outputs[0]!);
    const [chosen, left, right] = [condition, a, b].map((value) => repeated(value, dims, c)) as [Tensor, Tensor, Tensor];
    return [select(chosen, left, right, c)];
  },
  constant: ({ attributes: { value } }, c) => [c.constant(value)],
  exp: unary('exp'),
  sqrt: unary('sqrt'),
  tanh: unary('tanh'),
  log: unary('log'),
  floor: unary('floor'),
  sigmoid: unary('sigmoid'),
  gelu: unary('geluErf'),
  addScalar: ({ inputs: { x }, attributes: { value } }, c) => [c.builder.scale(c.packed(c.tensor(x)), 1, value)],
  mulScalar: ({ inputs: { x }, attributes: { value } }, c) => [c.builder.scale(c.packed(c.tensor(x)), value)],
  divScalar: ({ inputs: { x }, attributes: { value } }, c) => [c.builder.binary('div', c.packed(c.tensor(x)), c.constant(value))],
  cast: ({ inputs: { x }, attributes: { dtype } }, c) => {
    if (dtype === x.dtype || (x.dtype !== 'float32' && dtype !== 'bool')) return [x];
    const numbers = c.packed(c.tensor(x));
    if (dtype === 'bool') return [c.builder.unary('step', c.builder.unary('abs', numbers))];
    return [dtype === 'float32' ? x : c.builder.cast(c.builder.cast(numbers, 'I32'), 'F32')];
  },
  softmax: ({ inputs: { x } }, c) => [c.builder.unary('softmax', c.packed(c.rows(x)))],
  reduceSum: ({ inputs: { x } }, c) => [c.builder.reduce('sum', c.packed(c.rows(x)))],
  reduceMean: ({ inputs: { x } }, c) => [c.builder.reduce('mean', c.packed(c.rows(x)))],
  reduceMax: ({ inputs: { x } }, c) => {
    const rows = c.packed(c.rows(x));
    const [width, count] = rows.ne;
    const places = c.builder.reshape(c.builder.argmax(rows), [1, count]);
    return [c.builder.getRows(c.builder.reshape(rows, [1, width, count]), places)];
  },
  matmul: ({ inputs: { a, b }, outputs }, c) => [lowerMatmul(a, b, outputs[0]!, c)],

  siluAndMul: ({ inputs: { x } }, c) => {
    const [gate, up] = halves(x, c);
    return [c.builder.swiglu(gate, up)];
  },
  geluTanhAndMul: 'decompose', // ggml's reads a table of float16
  swigluOaiAndMul: ({ inputs: { x }, attributes: { alpha, limit } }, c) => {
    const [gate, up] = halves(x, c);
    return [c.builder.swigluOai(gate, up, alpha, limit)];
  },

  reshape: ({ inputs: { x } }) => [x],
  split: ({ inputs: { x }, attributes: { sizes } }, c) => {
    let start = 0;
    return sizes.map((size) => c.columns(x, start, (start += size)));
  },
  slice: ({ inputs: { x }, attributes: { axis, start, end } }, c) => {
    if (axis === x.dims.length - 1) return [c.columns(x, start, end)];
    return [c.packed(c.part(c.shaped(x, ...aroundAxis(c.dims(x), axis)), start, end))];
  },
  concat: ({ inputs: { a, b }, attributes: { axis } }, c) => [
    c.builder.concat(c.shaped(a, ...aroundAxis(c.dims(a), axis)), c.shaped(b, ...aroundAxis(c.dims(b), axis)), 1),
  ],
  permute: ({ inputs: { x }, attributes: { axes } }, c) => [lowerPermute(x, axes, c)],
  zerosLike: ({ inputs: { x } }, c) => [c.builder.repeat(c.constant(0), [c.count(x)])],
  gatherRows: ({ inputs: { x, indices } }, c) => {
    const table = c.packed(c.rows(x));
    return [c.builder.getRows(table, c.indices(indices, table.ne[1]))];
  },
  replaceRows: ({ inputs: { x, rows, indices } }, c) => {
    const [kept, replacing] = [c.packed(c.rows(x)), c.dims(rows)[0]!];
    if (replacing === 0) return [x];
    const count = kept.ne[1];
    const given = c.shaped(indices, count);
    const stays = c.builder.unary('step', c.builder.scale(given, -1)); // 1 where the index is negative
    const from = select(stays, c.builder.range(count), c.builder.scale(given, 1, count), c);
    const table = c.builder.concat(kept, c.packed(c.rows(rows)), 1);
    return [c.builder.getRows(table, c.builder.indices(from, count + replacing))];
  },

  linear: ({ inputs: { x, weight, bias } }, c) => {
    let start = 0;
    const products = c.factors(weight).map((factor) => {
      const product = multiply(factor, factor.isPacked ? c.packed(c.rows(x)) : c.rows(x), c);
      const columns = bias === null ? null : c.packed(c.columns(bias, start, (start += factor.ne[1])));
      return columns === null ? product : c.builder.binary('add', product, columns);
    });
    return [products];
  },
  embedding: ({ inputs: { ids, weight } }, c) => {
    const table = c.matrix(weight);
    return [c.builder.getRows(table, c.indices(ids, table.ne[1]))];
  },

  rmsNorm: ({ inputs: { x, weight }, attributes: { epsilon } }, c) => [norm('rms', lastGroups(x, c), weight, epsilon, c)],
  addRmsNorm: ({ inputs: { x, residual, weight }, attributes: { epsilon } }, c) => {
    const sum = c.builder.binary('add', c.rows(x), repeated(residual, c.dims(x), c));
    return [norm('rms', sum, weight, epsilon, c), sum];
  },
  layerNorm: ({ inputs: { x, weight, bias }, attributes: { epsilon } }, c) => [
    c.builder.binary('add', norm('mean', lastGroups(x, c), weight, epsilon, c), c.packed(c.tensor(bias))),
  ],

  rotaryEmbedding: (node, c) => [lowerRotary(node, c)],
  attention: (node, c) => [lowerAttention(node, c)],
  selfAttention: ({ inputs: { query, key, value }, attributes: { headDim, scale } }, c) => {
    const [batch, sequence] = c.dims(query) as [number, number];
    const byHead = (x: Value): Tensor => {
      const groups = c.packed(c.grouped(x, headDim));
      return c.builder.permute(c.builder.reshape(groups, [headDim, groups.ne[1], sequence, batch]), [0, 2, 1, 3]);
    };
    return [attend(c.builder, [byHead(query), byHead(key), byHead(value)], { scale })];
  },
  fusedMoe: (node, c) => [lowerFusedMoe(node, c)],
};

/** GPUs multiply in float16 in these. */
const tolerances: Partial<Record<OpName, number>> = { attention: 2e-3, selfAttention: 2e-3 };

const own = new Map(
  Object.entries(lowerings)
    .filter(([, lower]) => lower !== 'decompose')
    .map(([name, lower]) => [
      ops[name as OpName] as OpFacts,
      { op: ops[name as OpName], platform: 'ggml', lower, tolerance: tolerances[name as OpName] } as unknown as GgmlLowering,
    ]),
);

/** The lowering of a node: one of `added`, else the built-in one; null when the node is decomposed. */
export function loweringOf(node: OpNode, added: readonly GgmlLowering[]): GgmlLowering | null {
  return chooseLowering(added, node) ?? own.get(node.op) ?? null;
}

type UnaryKind = Parameters<LoweringContext['builder']['unary']>[0];
type BinaryKind = Parameters<LoweringContext['builder']['binary']>[0];

function unary(kind: UnaryKind) {
  return ({ inputs: { x } }: Unary, c: LoweringContext) => [c.builder.unary(kind, c.packed(c.tensor(x)))];
}

function binary(kind: BinaryKind) {
  return ({ inputs: { a, b }, outputs }: Binary, c: LoweringContext) => [combine(kind, a, b, outputs[0]!, c)];
}

function combine(kind: BinaryKind, a: Value, b: Value, result: Value, c: LoweringContext): Tensor {
  const dims = c.dims(result);
  const [left, right] = joinedAxes([c.dims(a), c.dims(b)], dims, c) as [number[], number[]];
  const isWhole = (shape: readonly number[]): boolean => shape.reduce((product, size) => product * size, 1) === c.count(result);
  const commutes = kind === 'add' || kind === 'mul';
  if (!isWhole(left) && isWhole(right) && commutes) return c.builder.binary(kind, c.shaped(b, ...right), c.shaped(a, ...left));
  const whole = isWhole(left)
    ? c.shaped(a, ...left)
    : c.builder.repeat(c.shaped(a, ...left), joinedAxes([[...dims]], dims, c, [c.dims(a), c.dims(b)])[0]!.reverse());
  return c.builder.binary(kind, whole, c.shaped(b, ...right));
}

/** A value repeated to `dims`. */
function repeated(value: Value, dims: readonly number[], c: LoweringContext): Tensor {
  if (c.count(value) === dims.reduce((product, size) => product * size, 1)) return c.packed(c.rows(value));
  const own = c.dims(value);
  return c.builder.repeat(c.shaped(value, ...joinedAxes([own], dims, c)[0]!), joinedAxes([[...dims]], dims, c, [own])[0]!.reverse());
}

/**
 * Shapes that broadcast to `dims`, with neighbouring axes joined where every one of them (and of `also`) is whole or every one is 1 along both; at most four axes.
 */
function joinedAxes(
  shapes: readonly (readonly number[])[],
  dims: readonly number[],
  c: LoweringContext,
  also: readonly (readonly number[])[] = [],
): number[][] {
  const aligned = [...shapes, ...also].map((shape) => [...new Array<number>(dims.length - shape.length).fill(1), ...shape]);
  const joined: number[][] = aligned.map(() => []);
  let before: string | null = null;
  for (const [axis, size] of dims.entries()) {
    if (size === 1) continue;
    const pattern = aligned.map((shape) => shape[axis] === size).join();
    for (const [i, shape] of aligned.entries()) {
      if (pattern === before) joined[i]!.push(joined[i]!.pop()! * shape[axis]!);
      else joined[i]!.push(shape[axis]!);
    }
    before = pattern;
  }
  if (joined[0]!.length > 4) throw c.error(`Shapes of ${dims.length} axes broadcast in more than four groups.`);
  return joined.slice(0, shapes.length);
}

/** The elements of `a` where `condition` is 1, else of `b`. No arithmetic, so that infinities stay. */
function select(condition: Tensor, a: Tensor, b: Tensor, c: LoweringContext): Tensor {
  const { builder } = c;
  const count = condition.elements;
  const table = builder.concat(builder.reshape(a, [1, count]), builder.reshape(b, [1, count]), 1);
  const offset = builder.scale(builder.reshape(condition, [count]), -count, count);
  const chosen = builder.getRows(table, builder.indices(builder.binary('add', offset, builder.range(count)), 2 * count));
  return builder.reshape(chosen, [count]);
}

function larger({ inputs: { a, b }, outputs }: Binary, c: LoweringContext, sign: 1 | -1): Tensor {
  const dims = c.dims(outputs[0]!);
  const [left, right] = [a, b].map((value) => c.builder.reshape(repeated(value, dims, c), [c.count(outputs[0]!)])) as [Tensor, Tensor];
  const gap = sign === 1 ? c.builder.binary('sub', right, left) : c.builder.binary('sub', left, right);
  return select(c.builder.unary('step', gap), right, left, c);
}

function halves(x: Value, c: LoweringContext): [Tensor, Tensor] {
  const width = c.dims(x).at(-1)!;
  return [c.columns(x, 0, width / 2), c.columns(x, width / 2, width)];
}

/** Dims before, of and after an axis. */
function aroundAxis(dims: readonly number[], axis: number): [number, number, number] {
  const product = (part: readonly number[]): number => part.reduce((a, b) => a * b, 1);
  return [product(dims.slice(0, axis)), dims[axis]!, product(dims.slice(axis + 1))];
}

/** Swaps blocks of axes until each is in its place: ggml has four axes, and a block before, two blocks and a block after are four. */
function lowerPermute(x: Value, axes: readonly number[], c: LoweringContext): Tensor {
  const product = (part: readonly number[]): number => part.reduce((all, axis) => all * dims[axis]!, 1);
  const dims = c.dims(x);
  let order = dims.map((_, axis) => axis);
  let tensor = c.packed(c.tensor(x));
  for (const [at, axis] of axes.entries()) {
    const from = order.indexOf(axis);
    if (from === at) continue;
    const [before, skipped, after] = [order.slice(0, at), order.slice(at, from), order.slice(from + 1)];
    order = [...before, axis, ...skipped, ...after];
    if (dims[axis] === 1 || product(skipped) === 1) continue;
    const blocks = c.builder.reshape(tensor, [product(after), dims[axis]!, product(skipped), product(before)]);
    tensor = c.builder.contiguous(c.builder.permute(blocks, [0, 2, 1, 3]));
  }
  return tensor;
}

function lowerMatmul(a: Value, b: Value, result: Value, c: LoweringContext): Tensor {
  const { builder } = c;
  const product = (dims: readonly number[]): number => dims.reduce((all, size) => all * size, 1);
  const outer = c.dims(result).slice(0, -2);
  const [m, k] = c.dims(a).slice(-2) as [number, number];
  const n = c.dims(b).at(-1)!;
  const isOne = product(c.dims(b).slice(0, -2)) === 1;
  const full = (value: Value, rows: number, columns: number): Tensor =>
    builder.reshape(repeated(value, [...outer, rows, columns], c), [columns, rows, product(outer)]);
  const right = isOne ? c.shaped(b, 1, k, n) : full(b, k, n);
  const transposed = builder.contiguous(builder.permute(right, [1, 0, 2, 3]));
  return builder.matmul(transposed, full(a, m, k));
}

/** The most rows whose products with floats are computed one by one. */
const mostSingleRows = 8;

/**
 * Products of rows with a weight. ggml has another kernel for several rows of floats, which rounds otherwise than that for one row. It is for long prompts: some
 * rows become one row each of several matrices, which costs no more, since each element of the weight is still read once.
 */
function multiply(weight: Tensor, x: Tensor, { builder, weights }: LoweringContext): Tensor {
  const [width, rows] = x.ne;
  const isPlain = weights.device.type === 'CPU' && blockOf(weight.type).elements === 1 && !weight.isPacked;
  const apart = isPlain && rows > 1 && rows <= mostSingleRows;
  if (!apart) return builder.matmul(weight, x);
  const single = builder.matmul(weight, builder.view(x, [width, 1, rows], [x.nb[0], x.nb[1], x.nb[1], x.nb[1] * rows]));
  return builder.reshape(single, [weight.ne[1], rows]);
}

/** A value as rows of its last axis; a view where its rows lie apart. */
function lastGroups(x: Value, c: LoweringContext): Tensor {
  return c.grouped(x, c.dims(x).at(-1)!);
}

function norm(kind: 'rms' | 'mean', rows: Tensor, weight: Value | null, epsilon: number, c: LoweringContext): Tensor {
  const normed = c.builder.norm(kind, rows, epsilon);
  return weight === null ? normed : c.builder.binary('mul', normed, c.packed(c.tensor(weight)));
}

function lowerRotary({ inputs: { x, positions, cos, sin }, attributes }: NodeOf<typeof ops.rotaryEmbedding>, c: LoweringContext): Tensor {
  const { headDim, interleaved, rotaryDim } = attributes;
  const [cosWeight, sinWeight] = [c.weightOf(cos), c.weightOf(sin)];
  const known = cosWeight === null || sinWeight === null ? null : c.weights.rotationOf(cosWeight, sinWeight);
  const places = c.indices(positions, c.dims(cos)[0]!);
  const groups = c.grouped(x, headDim);
  if (known === null) return turnedByTables(groups, places, { cos, sin, attributes }, c);
  return c.builder.rope(groups, places, { dims: rotaryDim, interleaved, base: 1, factors: known.factors, magnitude: known.magnitude });
}

interface Tables {
  readonly cos: Value;
  readonly sin: Value;
  readonly attributes: AttributesOf<typeof ops.rotaryEmbedding>;
}

/** The rotation in single steps, for tables that come from no frequencies. */
function turnedByTables(groups: Tensor, places: Tensor, { cos, sin, attributes }: Tables, c: LoweringContext): Tensor {
  const { builder } = c;
  const { headDim, interleaved, rotaryDim } = attributes;
  const [heads, tokens, half] = [groups.ne[1], groups.ne[2], rotaryDim / 2];
  const columnsOf = (start: number, width: number): Tensor => builder.view(groups, [width, heads, tokens], groups.nb, start * 4);
  const apart = interleaved ? evenAndOdd(builder.contiguous(columnsOf(0, rotaryDim)), c) : [columnsOf(0, half), columnsOf(half, half)];
  const [first, second] = apart as [Tensor, Tensor];
  const factorOf = (table: Value): Tensor => builder.reshape(builder.getRows(c.packed(c.rows(table)), places), [half, 1, tokens]);
  const [cosines, sines] = [factorOf(cos), factorOf(sin)];
  const mix = (kind: 'sub' | 'add', a: Tensor, b: Tensor): Tensor =>
    builder.binary(kind, builder.binary('mul', a, cosines), builder.binary('mul', b, sines));
  const [turnedFirst, turnedSecond] = [mix('sub', first, second), mix('add', second, first)];
  const turned = interleaved ? neighbours(turnedFirst, turnedSecond, c) : builder.concat(turnedFirst, turnedSecond, 0);
  return rotaryDim === headDim ? turned : builder.concat(turned, builder.contiguous(columnsOf(rotaryDim, headDim - rotaryDim)), 0);
}

/** Elements 0, 2, 4, ... and 1, 3, 5, ... of [2n, heads, tokens]. */
function evenAndOdd(x: Tensor, { builder }: LoweringContext): Tensor[] {
  const [width, heads, tokens] = x.ne;
  const pairs = builder.contiguous(builder.permute(builder.reshape(x, [2, width / 2, heads, tokens]), [3, 0, 1, 2]));
  const [, row, plane, whole] = pairs.nb;
  return [0, 1].map((i) => builder.view(pairs, [width / 2, heads, tokens], [4, row, plane, whole], i * whole));
}

/** The inverse of `evenAndOdd`. */
function neighbours(even: Tensor, odd: Tensor, { builder }: LoweringContext): Tensor {
  const [half, heads, tokens] = even.ne;
  const four = (x: Tensor): Tensor => builder.reshape(x, [1, half, heads, tokens]);
  return builder.reshape(builder.concat(four(even), four(odd), 0), [2 * half, heads, tokens]);
}
