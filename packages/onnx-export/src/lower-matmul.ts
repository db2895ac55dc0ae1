import { type AttributesOf, type ops, quantBlock, type Value, type WeightSlot } from '@graft/graph';
import { float, int } from '@graft/onnxruntime';
import type { LoweringContext, Name } from './lowering-context.ts';

/** A product with a weight `[out, in]`, or with slice `expert` of a weight `[experts, out, in]`. */
export interface MatMul {
  x: Name;
  /** The number of axes of `x`. */
  rank: number;
  weight: Value;
  bias?: Name | null;
  expert?: number;
  /** For few rows whose result matters (logits): also computes the part that rounding removes from the activations. */
  precise?: boolean;
}

/** The exact kernel of the 4-bit formats is as fast as others for many rows. That of 8 bits is a hundred times slower. */
const bitsOf = { int8b32: 8, int4b32: 4, int4b32o: 4 } as const;

export function isQuantised(format: string): format is keyof typeof bitsOf {
  return Object.hasOwn(bitsOf, format);
}

/** Whether prefill and decode use different kernels for this format. */
export function hasExactKernel(format: string): boolean {
  return isQuantised(format) && bitsOf[format] === 4;
}

/**
 * `x` times the transpose of a weight, in the weight's own format. Weights stay constants of the graph, because ONNX Runtime packs a constant once and is
 * a hundred times slower for other weights.
 */
export function matMul(c: LoweringContext, { x, rank, weight, bias = null, expert, precise = false }: MatMul): Name {
  const slot = c.weightOf(weight);
  const format = c.formatOf(weight);
  if (slot !== null && isQuantised(format)) {
    const multiply = (rows: Name, added: Name | null): Name => quantised(c, rows, slot, format, added, expert);
    const rounds = bitsOf[format] === 8 || c.activations === 'rounded';
    const product = precise && rounds ? inTwoTerms(c, { x, rank, columns: slot.shape.at(-1)!, bias }, multiply) : multiply(x, bias);
    return format === 'int4b32o' ? c.op('Add', [product, offsetTerm(c, x, slot, expert)]) : product;
  }
  const product = c.op('FusedMatMul', [x, sliceOf(c, weight, expert)], { microsoft: true, attributes: { transB: int(1) } });
  return bias === null ? product : c.op('Add', [product, bias]);
}

/** A weight in float32, or its slice `index` along the first axis. */
export function sliceOf(c: LoweringContext, weight: Value, index?: number): Name {
  if (index === undefined) return c.name(weight);
  const slot = c.weightOf(weight);
  return slot === null ? c.gather(c.name(weight), c.constant('int64', [], [index])) : c.dense(slot, index);
}

/**
 * A nearly exact product with a kernel that rounds activations to 8 bits in blocks. The rounded activations and the remainder are two rows of one product,
 * which takes no longer because reading the weights dominates. Rounding the rounded part again does not change it.
 */
function inTwoTerms(
  c: LoweringContext,
  { x, rank, columns, bias }: { x: Name; rank: number; columns: number; bias: Name | null },
  multiply: (rows: Name, bias: Name | null) => Name,
): Name {
  const kept = new Array<number>(rank - 1).fill(0);
  const blocks = c.op('Reshape', [x, c.int64s([...kept, columns / quantBlock, quantBlock])]);
  const largest = c.op('ReduceMax', [c.op('Abs', [blocks]), c.int64s([-1])]);
  const scaled = c.op('Mul', [largest, c.constant('float32', [], [1 / 127])]);
  const step = c.op('Max', [scaled, c.constant('float32', [], [1e-30])]); // a block of zeros needs a step too
  const steps = c.op('Mul', [c.op('Round', [c.op('Div', [blocks, step])]), step]);
  const rounded = c.op('Reshape', [steps, c.int64s([...kept, columns])]);
  const both = c.concat([rounded, c.op('Sub', [x, rounded])]);
  const terms = c.node('Split', [multiply(both, null)], 2, { attributes: { axis: int(0), num_outputs: int(2) } });
  const sum = c.op('Add', terms);
  return bias === null ? sum : c.op('Add', [sum, bias]);
}

/** Accuracy level 4 rounds the activations to 8 bits in blocks: an error of 0.6 %, at the speed of reading the weights. */
function quantised(c: LoweringContext, x: Name, slot: WeightSlot, format: keyof typeof bitsOf, bias: Name | null, expert?: number): Name {
  const [n, k] = slot.shape.slice(-2) as [number, number];
  const bits = bitsOf[format];
  const zeroPoints = format === 'int4b32' ? '' : c.part(slot, bits === 8 ? 'zeroPoints' : 'packedZeroPoints', expert);
  const inputs = [x, c.part(slot, 'quants', expert), c.part(slot, 'scales', expert), zeroPoints, '', bias ?? ''];
  while (inputs.at(-1) === '') inputs.pop();
  const accuracy = bits === 4 && c.activations === 'exact' ? 0 : 4;
  return c.op('MatMulNBits', inputs, {
    microsoft: true,
    attributes: { N: int(n), K: int(k), bits: int(bits), block_size: int(quantBlock), accuracy_level: int(accuracy) },
  });
}

/** The contribution of the blocks' offsets: each block's sum of activations times its offset. This product is a 32nd of the size. */
function offsetTerm(c: LoweringContext, x: Name, slot: WeightSlot, expert?: number): Name {
  const sums = c.op('MatMul', [x, blockSums(c, slot.shape.at(-1)!)]); // [..., blocks]
  return c.op('FusedMatMul', [sums, c.part(slot, 'offsets', expert)], { microsoft: true, attributes: { transB: int(1) } });
}

/** A matrix whose product sums each block. Unlike `ReduceSum`, the product accepts the zero rows of an idle expert. */
function blockSums(c: LoweringContext, columns: number): Name {
  const blocks = columns / quantBlock;
  return c.once(`block sums ${columns}`, () => {
    const matrix = new Float32Array(columns * blocks);
    for (let column = 0; column < columns; column++) matrix[column * blocks + Math.floor(column / quantBlock)] = 1;
    return c.onnx.initializer(`block sums of ${columns}`, 'float32', [columns, blocks], matrix);
  });
}

/** What gates the second half of a tensor by the first: an op of the name `<kind>AndMul`. */
export type Gate = AttributesOf<typeof ops.fusedMoe>['activation'] | { readonly kind: 'geluTanh' };

/** `x [..., 2 * size]` -> `[..., size]`. */
export function gated(c: LoweringContext, x: Name, size: number, gate: Gate): Name {
  const [first, second] = c.node('Split', [x, c.int64s([size, size])], 2, { attributes: { axis: int(-1) } }) as [Name, Name];
  const number = (value: number): Name => c.constant('float32', [], [value]);
  const swish = (value: Name, alpha: number): Name => c.op('QuickGelu', [value], { microsoft: true, attributes: { alpha: float(alpha) } });
  switch (gate.kind) {
    case 'silu':
      return c.op('Mul', [swish(first, 1), second]);
    case 'geluTanh':
      return c.op('Mul', [c.op('FastGelu', [first], { microsoft: true }), second]);
    case 'swigluOai': {
      const activated = swish(c.op('Min', [first, number(gate.limit)]), gate.alpha);
      const clamped = c.op('Clip', [second, number(-gate.limit), number(gate.limit)]);
      return c.op('Mul', [c.op('Add', [clamped, number(1)]), activated]);
    }
  }
}
