import { quantBlock, type Value, type WeightSlot } from '@graft/graph';
import { float, int } from '@graft/onnxruntime';
import type { LoweringContext, Name } from './lowering-context.ts';

/**
 * `x` times the transpose of a weight `[out, in]`, or of part `expert` of a weight `[experts, out, in]`, in the form in which the weight is kept.
 * Weights stay constants of the graph: ONNX Runtime packs those once, and falls back to code a hundred times slower for others.
 */
export function matMul(c: LoweringContext, x: Name, weight: Value, bias: Name | null, expert?: number): Name {
  const slot = c.weightOf(weight);
  const format = c.formatOf(weight);
  if (slot !== null && (format === 'int8b32' || format === 'int4b32'))
    return quantised(c, x, slot, format === 'int8b32' ? 8 : 4, bias, expert);
  const dense = slot === null ? c.name(weight) : expert === undefined ? c.name(weight) : c.dense(slot, expert);
  const product = c.op('FusedMatMul', [x, dense], { microsoft: true, attributes: { transB: int(1) } });
  return bias === null ? product : c.op('Add', [product, bias]);
}

/** Activations are rounded to 8 bit too (accuracy level 4): 0.6 % off, and as fast as the memory is read. */
function quantised(c: LoweringContext, x: Name, slot: WeightSlot, bits: 4 | 8, bias: Name | null, expert?: number): Name {
  const [n, k] = slot.shape.slice(-2) as [number, number];
  const zeroPoints = bits === 8 ? c.part(slot, 'zeroPoints', expert) : '';
  const inputs = [x, c.part(slot, 'quants', expert), c.part(slot, 'scales', expert), zeroPoints, '', bias ?? ''];
  while (inputs.at(-1) === '') inputs.pop();
  return c.op('MatMulNBits', inputs, {
    microsoft: true,
    attributes: { N: int(n), K: int(k), bits: int(bits), block_size: int(quantBlock), accuracy_level: int(4) },
  });
}

/** `silu(gate) * up` of `x [..., 2 * size]`. QuickGelu with alpha 1 is SiLU. */
export function siluAndMul(c: LoweringContext, x: Name, size: number): Name {
  const [gate, up] = c.node('Split', [x, c.constant('int64', [2], [size, size])], 2, { attributes: { axis: int(-1) } });
  const activated = c.op('QuickGelu', [gate!], { microsoft: true, attributes: { alpha: float(1) } });
  return c.op('Mul', [activated, up!]);
}
