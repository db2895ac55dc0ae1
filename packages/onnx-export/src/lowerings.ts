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
import { elementTypeFacts, float, int } from '@graft/onnxruntime';
import type { AttentionInputs } from './fusions.ts';
import { concat, permute, replaceRows, selfAttention, slice } from './lower-images.ts';
import { isQuantised, matMul, siluAndMul } from './lower-matmul.ts';
import { lowerFusedMoe, lowerStaticMoe } from './lower-moe.ts';
import { type Attributes, cacheDims, cacheWidth, type LoweringContext, type Name } from './lowering-context.ts';

/** A node of one of our ops; for attention, with what it does in place of the nodes before it. */
export type LoweredNode<K extends OpName> = NodeOf<(typeof ops)[K]> & { readonly fused: AttentionInputs | null };

/** Adds the ONNX nodes of one op and gives the tensors of its outputs; those written in place of a cache may be left out. */
export type Lowering<K extends OpName> = (node: LoweredNode<K>, context: LoweringContext) => readonly Name[];

/** A plugin's lowering of an op for a platform that runs ONNX. */
export type OnnxLowering<O = OpFacts> = OpLowering<LoweringContext, readonly Name[], O>;

/** One for each op of ours: an op without one does not compile. */
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
  cast: ({ inputs: { x }, attributes: { dtype } }, c) => [
    x.dtype === dtype ? c.name(x) : c.op('Cast', [c.name(x)], { attributes: { to: int(elementTypeFacts(dtype).code) } }),
  ],
  siluAndMul: ({ inputs: { x } }, c) => [siluAndMul(c, c.name(x), x.dims.at(-1)!.value / 2)],

  reshape: ({ inputs: { x }, outputs: [y] }, c) => [c.reshape(c.name(x), x.dims, y!.dims)],
  split: ({ inputs: { x }, attributes: { sizes } }, c) =>
    sizes.length === 1
      ? [c.name(x)]
      : c.node('Split', [c.name(x), c.constant('int64', [sizes.length], sizes)], sizes.length, { attributes: { axis: int(-1) } }),
  gatherRows({ inputs: { x, indices } }, c) {
    const rows = x.dims.length === 2 ? c.name(x) : c.op('Reshape', [c.name(x), c.constant('int64', [2], [-1, x.dims.at(-1)!.value])]);
    return [c.op('Gather', [rows, c.name(indices)], { attributes: { axis: int(0) } })];
  },
  zerosLike: ({ inputs: { x } }, c) => {
    const zeros = c.op('ConstantOfShape', [c.shape(x.dims)]);
    return [x.dtype === 'float32' ? zeros : c.op('Cast', [zeros], { attributes: { to: int(elementTypeFacts(x.dtype).code) } })];
  },

  permute,
  concat,
  slice,
  replaceRows,

  linear: ({ inputs: { x, weight, bias }, outputs: [y] }, c) => [
    matMul(c, { x: c.name(x), rank: x.dims.length, weight, bias: bias === null ? null : c.name(bias), precise: c.isOutput(y!) }),
  ],
  embedding: ({ inputs: { ids, weight } }, c) => [lowerEmbedding(ids, weight, c)],

  rmsNorm({ inputs: { x, weight }, attributes: { epsilon } }, c) {
    const hidden = x.dims.at(-1)!.value;
    return [norm(c, c.name(x), weight === null ? ones(c, hidden) : c.name(weight), epsilon)];
  },
  addRmsNorm({ inputs: { x, residual, weight }, attributes: { epsilon } }, c) {
    // One kernel for sum and norm rounds otherwise than two: a layer that starts with a residual would differ from one without, were it added as zeros.
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

  rotaryEmbedding: ({ inputs: { x, positions, cos, sin }, attributes: { numHeads, interleaved } }, c) => [
    c.op('RotaryEmbedding', [c.name(x), c.name(positions), c.name(cos), c.name(sin)], {
      microsoft: true,
      attributes: { interleaved: int(Number(interleaved)), num_heads: int(numHeads) },
    }),
  ],
  attention: (node, c) => [lowerAttention(node, c)],
  selfAttention,
  fusedMoe: ({ inputs, attributes: { topK } }, c) => [(c.hasWeightInputs ? lowerStaticMoe : lowerFusedMoe)(inputs, topK, c)],
};

const own = new Map<OpFacts, OnnxLowering>(
  Object.entries(lowerings).map(([name, lower]) => {
    const op = ops[name as OpName];
    return [op, { op, platform: 'onnx', lower } as OnnxLowering];
  }),
);

/** Ours for a node; null when there is none, or a plugin's is taken instead. */
export function ownLowering(node: OpNode, added: readonly OnnxLowering[]): OnnxLowering | null {
  return chooseLowering(added, node) === null ? (own.get(node.op) ?? null) : null;
}

/** The lowering that a node gets: one of those added, else ours; null when it is decomposed. */
export function loweringOf(node: OpNode, added: readonly OnnxLowering[]): OnnxLowering | null {
  return chooseLowering(added, node) ?? own.get(node.op) ?? null;
}

function binary(type: string) {
  return ({ inputs: { a, b } }: { inputs: { a: Value; b: Value } }, c: LoweringContext) => [c.op(type, [c.name(a), c.name(b)])];
}

function reduction(type: string) {
  return ({ inputs: { x } }: { inputs: { x: Value } }, c: LoweringContext) => [c.op(type, [c.name(x), c.constant('int64', [1], [-1])])];
}

function scalar(c: LoweringContext, dtype: DType, value: number): Name {
  if (dtype === 'bool') throw c.error('There is no arithmetic with bool.');
  return c.constant(dtype, [], [value]);
}

function ones(c: LoweringContext, size: number): Name {
  return c.constant('float32', [size], new Array<number>(size).fill(1));
}

function norm(c: LoweringContext, x: Name, weight: Name, epsilon: number): Name {
  const attributes: Attributes = { axis: int(-1), epsilon: float(epsilon), stash_type: int(1) };
  return c.op('SimplifiedLayerNormalization', [x, weight], { attributes });
}

/** Rows of the table, dequantised after they are picked: the whole table never is. */
function lowerEmbedding(ids: Value, weight: Value, c: LoweringContext): Name {
  const slot = c.weightOf(weight);
  const format = c.formatOf(weight);
  if (slot === null || !isQuantised(format)) {
    return c.op('Gather', [c.name(weight), c.name(ids)], { attributes: { axis: int(0) } });
  }
  const quants = c.part(slot, 'quants', undefined, ([rows, blocks, bytes]) => [rows!, blocks! * bytes!]);
  const inputs = [quants, c.name(ids), c.part(slot, 'scales')];
  if (format !== 'int4b32') inputs.push(c.part(slot, format === 'int8b32' ? 'zeroPoints' : 'packedZeroPoints'));
  const rows = c.op('GatherBlockQuantized', inputs, {
    microsoft: true,
    attributes: {
      bits: int(format === 'int8b32' ? 8 : 4),
      block_size: int(quantBlock),
      gather_axis: int(0),
      quantize_axis: int(1),
    },
  });
  return format === 'int4b32o' ? withOffsets(c, rows, ids, slot) : rows;
}

/** Adds each block's offset to rows picked from a table. */
function withOffsets(c: LoweringContext, rows: Name, ids: Value, slot: WeightSlot): Name {
  const hidden = slot.shape.at(-1)!;
  const kept = ids.dims.map(() => 0);
  const blocks = c.op('Reshape', [rows, c.constant('int64', [kept.length + 2], [...kept, hidden / quantBlock, quantBlock])]);
  const offsets = c.op('Gather', [c.part(slot, 'offsets'), c.name(ids)], { attributes: { axis: int(0) } }); // [..., blocks]
  const sum = c.op('Add', [blocks, c.op('Unsqueeze', [offsets, c.constant('int64', [1], [-1])])]);
  return c.op('Reshape', [sum, c.constant('int64', [kept.length + 1], [...kept, hidden])]);
}

function lowerAttention({ inputs, attributes, outputs, fused }: LoweredNode<'attention'>, c: LoweringContext): Name {
  const { numHeads, numKvHeads, headDim, scale } = attributes;
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
    ...(rotary === null ? [] : [c.name(rotary.cos), c.name(rotary.sin), c.name(rotary.positions)]),
  ];
  const caches = [c.cacheOutput(inputs.keyCache), c.cacheOutput(inputs.valueCache)];
  const [result] = c.node('GroupQueryAttention', names, [null, ...caches], {
    microsoft: true,
    attributes: {
      num_heads: int(numHeads),
      kv_num_heads: int(numKvHeads),
      scale: float(scale),
      ...(rotary !== null && { do_rotary: int(1), rotary_interleaved: int(Number(rotary.interleaved)) }),
    },
  });
  for (const [i, cache] of [inputs.keyCache, inputs.valueCache].entries())
    c.onnx.output(caches[i]!, 'float32', cacheDims((outputs[i + 1] ?? cache).dims));
  return trimHeads(c, result!, numHeads, headDim);
}

/** Zeros behind each head, where the kernel needs them; they change no score and no sum. [batch, sequence, heads * headDim]. */
function padHeads(c: LoweringContext, x: Name, heads: number, headDim: number): Name {
  const width = cacheWidth(headDim);
  if (width === headDim) return x;
  const apart = c.op('Reshape', [x, c.constant('int64', [4], [0, 0, heads, headDim])]);
  const padded = c.op('Pad', [apart, c.constant('int64', [8], [0, 0, 0, 0, 0, 0, 0, width - headDim])]);
  return c.op('Reshape', [padded, c.constant('int64', [3], [0, 0, heads * width])]);
}

/** The inverse of `padHeads`. */
function trimHeads(c: LoweringContext, x: Name, heads: number, headDim: number): Name {
  const width = cacheWidth(headDim);
  if (width === headDim) return x;
  const int64 = (value: number): Name => c.constant('int64', [1], [value]);
  const apart = c.op('Reshape', [x, c.constant('int64', [4], [0, 0, heads, width])]);
  const trimmed = c.op('Slice', [apart, int64(0), int64(headDim), int64(3)]);
  return c.op('Reshape', [trimmed, c.constant('int64', [3], [0, 0, heads * headDim])]);
}
