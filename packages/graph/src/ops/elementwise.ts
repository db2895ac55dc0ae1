import { z } from 'zod';
import { OpInputError } from '../errors.ts';
import type { TensorType } from '../graph-recorder.ts';
import type { Tensor } from '../tensor.ts';
import { broadcast, defineOp } from './define-op.ts';

const none = z.strictObject({});
const castFix = "cast one of them, as x.cast('float32').";

const binary = (name: string, result?: 'bool') =>
  ({
    name,
    inputs: ['a', 'b'],
    elementwise: true,
    attributes: none,
    infer({ a, b }: { a: TensorType; b: TensorType }): TensorType {
      if (a.dtype !== b.dtype || a.dtype === 'bool') throw new OpInputError(name, `The inputs are ${a.dtype} and ${b.dtype}.`, castFix);
      return { dtype: result ?? a.dtype, dims: broadcast(name, a.dims, b.dims) };
    },
  }) as const;

const same = ({ x }: { x: TensorType }): TensorType => ({ dtype: x.dtype, dims: x.dims });

const scalarLike =
  (name: string) =>
  ({ x }: { x: TensorType }, { value }: { value: number }): TensorType => {
    if (x.dtype === 'bool' || (x.dtype !== 'float32' && !Number.isSafeInteger(value)))
      throw new OpInputError(name, `The input is ${x.dtype} and the value ${value}.`, castFix);
    return same({ x });
  };

const unary = (name: string) => ({ name, inputs: ['x'], floats: ['x'], elementwise: true, attributes: none, infer: same }) as const;

const withScalar = <Infer>(name: string, infer: Infer) =>
  ({
    name,
    inputs: ['x'],
    elementwise: true,
    attributes: z.strictObject({ value: z.number() }),
    samples: [{ attributes: { value: 1.5 } }],
    infer,
  }) as const;

/** Sum, with broadcasting. */
export const add = defineOp(binary('add'));
/** Product, with broadcasting. */
export const mul = defineOp(binary('mul'));
/** Difference, with broadcasting. */
export const sub = defineOp(binary('sub'));
/** Quotient, with broadcasting. */
export const div = defineOp(binary('div'));
/** The larger of two, with broadcasting. */
export const max = defineOp(binary('max'));
/** The smaller of two, with broadcasting. */
export const min = defineOp(binary('min'));
/** `a < b`, with broadcasting. -> bool */
export const less = defineOp(binary('less', 'bool'));
/** `a = b`, with broadcasting. -> bool */
export const equal = defineOp(binary('equal', 'bool'));
/** `a` where the condition (bool) holds, else `b`; all three broadcast. */
export const where = defineOp({
  name: 'where',
  inputs: ['condition', 'a', 'b'],
  elementwise: true,
  attributes: none,
  samples: [{ inputs: { condition: { dtype: 'bool', dims: [2, 3, 1], below: 2 } } }],
  infer({ condition, a, b }) {
    if (condition.dtype !== 'bool' || a.dtype !== b.dtype)
      throw new OpInputError('where', `The inputs are ${condition.dtype}, ${a.dtype} and ${b.dtype}; expected bool and two of one type.`);
    return { dtype: a.dtype, dims: broadcast('where', condition.dims, broadcast('where', a.dims, b.dims)) };
  },
});
/** One number. -> `[]` */
export const constant = defineOp({
  name: 'constant',
  inputs: [],
  attributes: z.strictObject({ value: z.number(), dtype: z.enum(['float32', 'int64', 'int32']).default('float32') }),
  samples: [{ attributes: { value: 3 } }],
  infer: (_inputs, { dtype }) => ({ dtype, dims: [] }),
});
/** `x + value`. */
export const addScalar = defineOp(withScalar('addScalar', scalarLike('addScalar')));
/** `x * value`. */
export const mulScalar = defineOp(withScalar('mulScalar', scalarLike('mulScalar')));
/** `x / value`. */
export const divScalar = defineOp({ ...withScalar('divScalar', same), floats: ['x'] });
/** The largest whole number not above `x`. */
export const floor = defineOp(unary('floor'));
/** Natural logarithm. */
export const log = defineOp(unary('log'));
/** `e` to the power of `x`. */
export const exp = defineOp(unary('exp'));
/** Square root. */
export const sqrt = defineOp(unary('sqrt'));
/** Hyperbolic tangent. */
export const tanh = defineOp(unary('tanh'));
/** `1 / (1 + exp(-x))`. */
export const sigmoid = defineOp({ ...unary('sigmoid'), decompose: ({ x }) => constant({}, { value: 1 }).div(x.neg().exp().add(1)) });
/** `x / 2 * (1 + erf(x / sqrt(2)))`: GELU in its exact form (Hendrycks and Gimpel 2016). */
export const gelu = defineOp(unary('gelu'));

/** The same values in another element type. */
export const cast = defineOp({
  name: 'cast',
  inputs: ['x'],
  elementwise: true,
  attributes: z.strictObject({ dtype: z.enum(['float32', 'int64', 'int32', 'bool']) }),
  samples: [{ attributes: { dtype: 'int64' } }],
  infer: ({ x }, { dtype }) => ({ dtype, dims: x.dims }),
});
/** Parts of an op over a gate and what it lets through, the first and the second half of the last axis. `x [..., 2n]` -> `[..., n]`. */
const gated = <A extends z.ZodType<Record<string, unknown>>>(
  name: string,
  attributes: A,
  activate: (gate: Tensor, up: Tensor, attributes: z.output<A>) => Tensor,
) =>
  ({
    name,
    inputs: ['x'],
    floats: ['x'],
    attributes,
    decompose({ x }: { x: Tensor }, given: z.output<A>): Tensor {
      const half = x.dim(-1).value / 2;
      const [gate, up] = x.split(half, half);
      return activate(gate, up, given);
    },
    infer({ x }: { x: TensorType }): TensorType {
      const last = x.dims.at(-1);
      if (last === undefined) throw new OpInputError(name, 'The input has no axis.');
      return { dtype: x.dtype, dims: [...x.dims.slice(0, -1), last.dividedBy(2)] };
    },
  }) as const;

/** `silu(gate) * up` of `x [..., 2n]`, whose first half is the gate. -> `[..., n]`. vLLM: `SiluAndMul`. */
export const siluAndMul = defineOp(gated('siluAndMul', none, (gate, up) => gate.mul(gate.sigmoid()).mul(up)));

/** `gelu(gate) * up`, with GELU's approximation by tanh (Hendrycks and Gimpel 2016). As `siluAndMul`. vLLM: `GeluAndMul` with `approximate="tanh"`. */
export const geluTanhAndMul = defineOp(
  gated('geluTanhAndMul', none, (gate, up) => {
    const inner = gate
      .mul(gate)
      .mul(gate)
      .mul(0.044715)
      .add(gate)
      .mul(Math.sqrt(2 / Math.PI));
    return gate.mul(0.5).mul(inner.tanh().add(1)).mul(up);
  }),
);

const swigluOaiAttributes = z.strictObject({
  /** Factor of the gate within its sigmoid. */
  alpha: z.number().positive(),
  /** The gate is at most this, and `up` within it on both sides. */
  limit: z.number().positive(),
});

/** `(up + 1) * gate * sigmoid(alpha * gate)` after clamping. As `siluAndMul`. gpt-oss; vLLM: `SwigluOAIAndMul`, which takes gate and up as neighbours. */
export const swigluOaiAndMul = defineOp({
  ...gated('swigluOaiAndMul', swigluOaiAttributes, (gate, up, { alpha, limit }) => {
    const clamped = gate.min(limit);
    return up.max(-limit).min(limit).add(1).mul(clamped).mul(clamped.mul(alpha).sigmoid());
  }),
  samples: [{ attributes: { alpha: 1.702, limit: 0.5 } }],
});
