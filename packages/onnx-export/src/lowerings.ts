import {
  chooseLowering,
  type DType,
  type NodeOf,
  type OpFacts,
  type OpLowering,
  type OpName,
  type OpNode,
  ops,
  quantBlock,
  sameDims,
  type Value,
  type WeightSlot,
} from '@graft/graph';
import { float, int, ints } from '@graft/onnxruntime';
import type { AttentionInputs } from './fusions.ts';
import { gated, isQuantised, matMul } from './lower-matmul.ts';
import { lowerFusedMoe, lowerStaticMoe } from './lower-moe.ts';
import { cacheDims, cacheWidth, type LoweringContext, type Name } from './lowering-context.ts';

/** A node of a built-in op. An attention may replace the nodes before it (`fused`). */
export type LoweredNode<K extends OpName> = NodeOf<(typeof ops)[K]> & { readonly fused: AttentionInputs | null };

/** Adds the ONNX nodes of an op and returns the tensors of its outputs. Trailing outputs that extend a cache in place may be omitted. */
export type Lowering<K extends OpName> = (node: LoweredNode<K>, context: LoweringContext) => readonly Name[];

/** A plugin's lowering of an op for a platform that runs ONNX. */
export type OnnxLowering<O = OpFacts> = OpLowering<LoweringContext, readonly Name[], O>;

/** The lowerings of all built-in ops. */
export const lowerings: { readonly [K in OpName]: Lowering<K> } = {
  add: binary('Add'),
  sub: binary('Sub'),
  div: binary('Div'),
  max: binary('Max'),
  min: binary('Min'),
  less: binary('Less'),
  equal: binary('Equal'),
  matmul: binary('MatMul'),
  where: ({ inputs: { condition, a, b } }, c) => [c.op('Where', [c.name(condition), c.name(a), c.name(b)])],
  constant: ({ attributes: { value, dtype } }, c) => [c.constant(dtype, [], [value])],
  exp: ({ inputs: { x } }, c) => [c.op('Exp', [c.name(x)])],
  sqrt: ({ inputs: { x } }, c) => [c.op('Sqrt', [c.name(x)])],
  tanh: ({ inputs: { x } }, c) => [c.op('Tanh', [c.name(x)])],
  softmax: ({ inputs: { x } }, c) => [c.op('Softmax', [c.name(x)], { attributes: { axis: int(-1) } })],
  reduceSum: reduction('ReduceSum'),
  reduceMean: reduction('ReduceMean'),
  reduceMax: reduction('ReduceMax'),
  mul: binary('Mul'),
  addScalar: ({ inputs: { x }, attributes: { value } }, c) => [c.op('Add', [c.name(x), scalar(c, x.dtype, value)])],
  mulScalar: ({ inputs: { x }, attributes: { value } }, c) => [c.op('Mul', [c.name(x), scalar(c, x.dtype, value)])],
  divScalar: ({ inputs: { x }, attributes: { value } }, c) => [c.op('Div', [c.name(x), scalar(c, x.dtype, value)])],
  floor: ({ inputs: { x } }, c) => [c.op('Floor', [c.name(x)])],
  log: ({ inputs: { x } }, c) => [c.op('Log', [c.name(x)])],
  sigmoid: ({ inputs: { x } }, c) => [c.op('Sigmoid', [c.name(x)])],
  gelu: ({ inputs: { x } }, c) => [c.op('Gelu', [c.name(x)], { microsoft: true })],
  cast: ({ inputs: { x }, attributes: { dtype } }, c) => [x.dtype === dtype ? c.name(x) : c.cast(c.name(x), dtype)],
  siluAndMul: ({ inputs: { x } }, c) => [gated(c, c.name(x), halfOf(x), { kind: 'silu' })],
  geluTanhAndMul: ({ inputs: { x } }, c) => [gated(c, c.name(x), halfOf(x), { kind: 'geluTanh' })],
  swigluOaiAndMul: ({ inputs: { x }, attributes }, c) => [gated(c, c.name(x), halfOf(x), { kind: 'swigluOai', ...attributes })],

  reshape: ({ inputs: { x }, outputs: [y] }, c) => [c.reshape(c.name(x), x.dims, y!.dims)],
  split: ({ inputs: { x }, attributes: { sizes } }, c) =>
    sizes.length === 1 ? [c.name(x)] : c.node('Split', [c.name(x), c.int64s(sizes)], sizes.length, { attributes: { axis: int(-1) } }),
  gatherRows({ inputs: { x, indices } }, c) {
    const rows = x.dims.length === 2 ? c.name(x) : c.op('Reshape', [c.name(x), c.int64s([-1, x.dims.at(-1)!.value])]);
    return [c.gather(rows, c.name(indices))];
  },
  zerosLike: ({ inputs: { x } }, c) => {
    const zeros = c.op('ConstantOfShape', [c.shape(x.dims)]);
    return [x.dtype === 'float32' ? zeros : c.cast(zeros, x.dtype)];
  },

  permute: ({ inputs: { x }, attributes: { axes } }, c) => [c.op('Transpose', [c.name(x)], { attributes: { perm: ints(axes) } })],
  concat: ({ inputs: { a, b }, attributes: { axis } }, c) => [c.op('Concat', [c.name(a), c.name(b)], { attributes: { axis: int(axis) } })],
  slice: ({ inputs: { x }, attributes: { axis, start, end } }, c) => [
    c.op('Slice', [c.name(x), ...[start, end, axis].map((value) => c.int64s([value]))]),
  ],
  // Rows are gathered from a table that starts with a row of zeros, so that `rows` may be empty.
  replaceRows: ({ inputs: { x, rows, indices } }, c) => {
    const hidden = rows.dims[1]!.value;
    const zeros = c.constant('float32', [1, hidden], new Array<number>(hidden).fill(0));
    const table = c.concat([zeros, c.name(rows)]);
    const kept = c.op('Max', [c.name(indices), c.constant('int64', [], [-1])]);
    const replaced = c.gather(table, c.op('Add', [kept, c.constant('int64', [], [1])]));
    const stays = c.op('Less', [c.name(indices), c.constant('int64', [], [0])]);
    return [c.op('Where', [c.op('Unsqueeze', [stays, c.int64s([-1])]), c.name(x), replaced])];
  },
  selfAttention: ({ inputs: { query, key, value }, attributes: { numHeads, scale } }, c) => [
    c.op('MultiHeadAttention', [c.name(query), c.name(key), c.name(value)], {
      microsoft: true,
      attributes: { num_heads: int(numHeads), scale: float(scale) },
    }),
  ],
  linear: ({ inputs: { x, weight, bias }, outputs: [y] }, c) => [
    matMul(c, { x: c.name(x), rank: x.dims.length, weight, bias: bias === null ? null : c.name(bias), precise: c.isOutput(y!) }),
  ],
  embedding: ({ inputs: { ids, weight } }, c) => [lowerEmbedding(ids, weight, c)],

  rmsNorm({ inputs: { x, weight }, attributes: { epsilon } }, c) {
    const hidden = x.dims.at(-1)!.value;
    return [
      norm(c, c.name(x), weight === null ? c.constant('float32', [hidden], new Array<number>(hidden).fill(1)) : c.name(weight), epsilon),
    ];
  },
  addRmsNorm({ inputs: { x, residual, weight }, attributes: { epsilon } }, c) {
    // One kernel for sum and norm rounds differently from two, so a layer with a residual of zeros would differ from a layer without a residual.
    if (c.fuse && (x.dims.length === 2 || x.dims.length === 3) && sameDims(x.dims, residual.dims)) {
      const choice = { microsoft: true, attributes: { epsilon: float(epsilon) } };
      const inputs = [c.name(x), c.name(residual), c.name(weight)];
      const [normed, , , sum] = c.node('SkipSimplifiedLayerNormalization', inputs, [null, '', '', null], choice);
      return [normed!, sum!];
    }
    const sum = c.op('Add', [c.name(x), c.name(residual)]);
    return [norm(c, sum, c.name(weight), epsilon), sum];
  },
  layerNorm: ({ inputs: { x, weight, bias }, attributes: { epsilon } }, c) => [
    c.op('LayerNormalization', [c.name(x), c.name(weight), c.name(bias)], { attributes: { axis: int(-1), epsilon: float(epsilon) } }),
  ],

  rotaryEmbedding: ({ inputs: { x, positions, cos, sin }, attributes: { numHeads, headDim, interleaved, rotaryDim } }, c) => [
    c.op('RotaryEmbedding', [c.name(x), c.name(positions), c.name(cos), c.name(sin)], {
      microsoft: true,
      attributes: {
        interleaved: int(Number(interleaved)),
        num_heads: int(numHeads),
        ...(rotaryDim !== headDim && { rotary_embedding_dim: int(rotaryDim) }),
      },
    }),
  ],
  attention: (node, c) => [lowerAttention(node, c)],
  fusedMoe: ({ inputs, attributes }, c) => [(c.hasWeightInputs ? lowerStaticMoe : lowerFusedMoe)(inputs, attributes, c)],
};

const own = new Map(
  Object.entries(lowerings).map(([name, lower]) => [
    ops[name as OpName] as OpFacts,
    { op: ops[name as OpName], platform: 'onnx', lower } as OnnxLowering,
  ]),
);

/** The built-in lowering of a node; null for an op of a plugin, and when a lowering of a plugin serves instead. */
export function ownLowering(node: OpNode, added: readonly OnnxLowering[]): OnnxLowering | null {
  return chooseLowering(added, node) === null ? (own.get(node.op) ?? null) : null;
}

/** The lowering of a node: one of `added`, else the built-in one; null when the node is decomposed. */
export function loweringOf(node: OpNode, added: readonly OnnxLowering[]): OnnxLowering | null {
  return chooseLowering(added, node) ?? own.get(node.op) ?? null;
}

function binary(type: string) {
  return ({ inputs: { a, b } }: { inputs: { a: Value; b: Value } }, c: LoweringContext) => [c.op(type, [c.name(a), c.name(b)])];
}

function reduction(type: string) {
  return ({ inputs: { x } }: { inputs: { x: Value } }, c: LoweringContext) => [c.op(type, [c.name(x), c.int64s([-1])])];
}

function halfOf(x: Value): number {
  return x.dims.at(-1)!.value / 2;
}

function scalar(c: LoweringContext, dtype: DType, value: number): Name {
  if (dtype === 'bool') throw c.error('The op computes with a bool tensor, which has no arithmetic.');
  return c.constant(dtype, [], [value]);
}

function norm(c: LoweringContext, x: Name, weight: Name, epsilon: number): Name {
  return c.op('SimplifiedLayerNormalization', [x, weight], { attributes: { axis: int(-1), epsilon: float(epsilon), stash_type: int(1) } });
}

/** Picks rows of the table, then dequantises only these. */
function lowerEmbedding(ids: Value, weight: Value, c: LoweringContext): Name {
  const slot = c.weightOf(weight);
  const format = c.formatOf(weight);
  if (slot === null || !isQuantised(format)) {
    return c.gather(c.name(weight), c.name(ids));
  }
  const quants = c.part(slot, 'quants', undefined, ([rows, blocks, bytes]) => [rows!, blocks! * bytes!]);
  const inputs = [quants, c.name(ids), c.part(slot, 'scales')];
  if (format !== 'int4b32') inputs.push(c.part(slot, format === 'int8b32' ? 'zeroPoints' : 'packedZeroPoints'));
  const rows = c.op('GatherBlockQuantized', inputs, {
    microsoft: true,
    attributes: { bits: int(format === 'int8b32' ? 8 : 4), block_size: int(quantBlock), gather_axis: int(0), quantize_axis: int(1) },
  });
  return format === 'int4b32o' ? withOffsets(c, rows, ids, slot) : rows;
}

/** Adds the blocks' offsets to rows that were picked from a table. */
function withOffsets(c: LoweringContext, rows: Name, ids: Value, slot: WeightSlot): Name {
  const hidden = slot.shape.at(-1)!;
  const kept = ids.dims.map(() => 0);
  const blocks = c.op('Reshape', [rows, c.int64s([...kept, hidden / quantBlock, quantBlock])]);
  const offsets = c.gather(c.part(slot, 'offsets'), c.name(ids)); // [..., blocks]
  const sum = c.op('Add', [blocks, c.op('Unsqueeze', [offsets, c.int64s([-1])])]);
  return c.op('Reshape', [sum, c.int64s([...kept, hidden])]);
}

function lowerAttention({ inputs, attributes, outputs, fused }: LoweredNode<'attention'>, c: LoweringContext): Name {
  const { numHeads, numKvHeads, headDim, scale, window, softcap } = attributes;
  const { packed, query, key, value, rotary } = fused ?? { ...inputs, packed: null, rotary: null };
  const lengths = c.name(inputs.sequenceLengths);
  const lastRow = c.once(`last row ${lengths}`, () => c.op('Sub', [lengths, c.constant('int32', [], [1])]));
  const heads = (x: Value, count: number): Name => padHeads(c, c.name(x), count, headDim);
  const names = [
    ...(packed === null ? [heads(query, numHeads), heads(key, numKvHeads), heads(value, numKvHeads)] : [c.name(packed), '', '']),
    c.name(inputs.keyCache),
    c.name(inputs.valueCache),
    lastRow,
    c.name(inputs.totalLength),
    ...(rotary === null ? ['', '', ''] : [c.name(rotary.cos), c.name(rotary.sin), c.name(rotary.positions)]),
    '', // a bias of the scores
    inputs.sinks === null ? '' : c.name(inputs.sinks),
  ];
  while (names.at(-1) === '') names.pop();
  const caches = [c.cacheOutput(inputs.keyCache), c.cacheOutput(inputs.valueCache)];
  const [result] = c.node('GroupQueryAttention', names, [null, ...caches], {
    microsoft: true,
    attributes: {
      num_heads: int(numHeads),
      kv_num_heads: int(numKvHeads),
      scale: float(scale),
      ...(window !== null && { local_window_size: int(window) }),
      ...(softcap !== null && { softcap: float(softcap) }),
      ...(rotary !== null && { do_rotary: int(1), rotary_interleaved: int(Number(rotary.interleaved)) }),
    },
  });
  for (const [i, cache] of [inputs.keyCache, inputs.valueCache].entries())
    c.onnx.output(caches[i]!, 'float32', cacheDims((outputs[i + 1] ?? cache).dims));
  return trimHeads(c, result!, numHeads, headDim);
}

/** Appends zeros to each head up to the width of the cache. They change no score and no sum. [batch, sequence, heads * width]. */
function padHeads(c: LoweringContext, x: Name, heads: number, headDim: number): Name {
  const width = cacheWidth(headDim);
  if (width === headDim) return x;
  const apart = c.op('Reshape', [x, c.int64s([0, 0, heads, headDim])]);
  const padded = c.op('Pad', [apart, c.int64s([0, 0, 0, 0, 0, 0, 0, width - headDim])]);
  return c.op('Reshape', [padded, c.int64s([0, 0, heads * width])]);
}

/** The inverse of `padHeads`. */
function trimHeads(c: LoweringContext, x: Name, heads: number, headDim: number): Name {
  const width = cacheWidth(headDim);
  if (width === headDim) return x;
  const apart = c.op('Reshape', [x, c.int64s([0, 0, heads, width])]);
  const trimmed = c.op('Slice', [apart, c.int64s([0]), c.int64s([headDim]), c.int64s([3])]);
  return c.op('Reshape', [trimmed, c.int64s([0, 0, heads * headDim])]);
}
