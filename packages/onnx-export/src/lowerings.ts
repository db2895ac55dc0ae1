import {
  type AttributesOf,
  type DType,
  type InputsOf,
  type OpName,
  type OpNode,
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

export interface LoweredNode<K extends OpName> {
  readonly inputs: InputsOf<K, Value>;
  readonly attributes: AttributesOf<K>;
  readonly outputs: readonly Value[];
  /** For attention: what it does in place of the nodes before it. */
  readonly fused: AttentionInputs | null;
}

/** Adds the ONNX nodes of one op and gives the tensors of its outputs; those written in place of a cache may be left out. */
export type Lowering<K extends OpName> = (node: LoweredNode<K>, context: LoweringContext) => readonly Name[];

/** One for each op there is: an op without one does not compile. */
export const lowerings: { readonly [K in OpName]: Lowering<K> } = {
  add: ({ inputs: { a, b } }, c) => [c.op('Add', [c.name(a), c.name(b)])],
  mul: ({ inputs: { a, b } }, c) => [c.op('Mul', [c.name(a), c.name(b)])],
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

/** Lowers one node of an inlined graph. */
export function lower(node: OpNode, fused: AttentionInputs | null, context: LoweringContext): void {
  const lowering = lowerings[node.op] as Lowering<OpName>;
  const names = lowering(
    { inputs: node.inputs, attributes: node.attributes, outputs: node.outputs, fused } as LoweredNode<OpName>,
    context,
  );
  for (const [i, name] of names.entries()) context.alias(node.outputs[i]!, name);
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
