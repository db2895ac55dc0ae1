import type { HostTensor } from '../backend.ts';
import { elementCount, numbersOf, zeros } from './host-tensor.ts';
import type { Kernel, Kernels } from './kernel.ts';

export function sigmoidOf(x: number): number {
  return 1 / (1 + Math.exp(-x));
}

export function siluOf(x: number): number {
  return x * sigmoidOf(x);
}

/** Uses the series of positive terms `2 / sqrt(pi) * exp(-x^2) * (x + 2 x^3 / 3 + 4 x^5 / 15 + ...)`. From 6 on it is 1 in float64. */
function erfOf(x: number): number {
  if (Math.abs(x) >= 6) return Math.sign(x);
  let term = x;
  let sum = x;
  for (let n = 1; Math.abs(term) > 1e-17 * Math.abs(sum); n++) {
    term *= (2 * x * x) / (2 * n + 1);
    sum += term;
  }
  return (2 / Math.sqrt(Math.PI)) * Math.exp(-x * x) * sum;
}

/** For each element of a result of shape `dims`, the index of the element of `source` that broadcasting puts there. */
export function broadcastIndex(source: readonly number[], dims: readonly number[]): (index: number) => number {
  if (elementCount(source) === elementCount(dims)) return (index) => index;
  return (index) => {
    let rest = index;
    let stride = 1;
    let at = 0;
    for (let axis = dims.length - 1; axis >= 0; axis--) {
      const position = rest % dims[axis]!;
      rest = Math.floor(rest / dims[axis]!);
      const size = source[axis - dims.length + source.length] ?? 1;
      if (size !== 1) at += position * stride;
      stride *= size;
    }
    return at;
  };
}

function binary<T extends number | bigint>(
  { a, b }: { a: HostTensor; b: HostTensor },
  dims: readonly number[],
  combine: (x: T, y: T) => T | boolean,
  dtype = a.dtype,
): readonly HostTensor[] {
  const result = zeros(dtype, dims);
  const [left, right, out] = [a.data, b.data, result.data] as unknown as [T[], T[], (T | boolean)[]];
  const [leftAt, rightAt] = [broadcastIndex(a.dims, dims), broadcastIndex(b.dims, dims)];
  for (let i = 0; i < out.length; i++) out[i] = combine(left[leftAt(i)]!, right[rightAt(i)]!);
  return [result];
}

function unary(x: HostTensor, apply: (x: number) => number): readonly HostTensor[] {
  const result = zeros(x.dtype, x.dims);
  const [source, out] = [x.data, result.data];
  for (let i = 0; i < out.length; i++) {
    const value = apply(Number(source[i]!));
    out[i] = out instanceof BigInt64Array ? BigInt(value) : value;
  }
  return [result];
}

const cast: Kernel<'cast'> = ({ x }, { dtype }) => {
  if (dtype === x.dtype) return [x];
  const result = zeros(dtype, x.dims);
  const { data } = result;
  const source = numbersOf(x);
  for (let i = 0; i < data.length; i++) {
    const value = source[i]!;
    if (dtype === 'int64') data[i] = BigInt(Math.trunc(value));
    else data[i] = dtype === 'bool' ? Number(value !== 0) : value;
  }
  return [result];
};

const where: Kernel<'where'> = ({ condition, a, b }, _attributes, { outputDims }) => {
  const result = zeros(a.dtype, outputDims[0]!);
  const at = [condition, a, b].map(({ dims }) => broadcastIndex(dims, result.dims));
  const [left, right, out] = [a.data, b.data, result.data] as unknown as [number[], number[], number[]];
  for (let i = 0; i < out.length; i++) out[i] = Number(condition.data[at[0]!(i)]) === 0 ? right[at[2]!(i)]! : left[at[1]!(i)]!;
  return [result];
};

/** Of numbers or of bigints, which `Math.max` does not take. */
function larger<T extends number | bigint>(x: T, y: T): T {
  if (y > x) return y;
  return x;
}

export const elementwise = {
  add: (inputs, _, { outputDims }) => binary<number>(inputs, outputDims[0]!, (x, y) => x + y),
  mul: (inputs, _, { outputDims }) => binary<number>(inputs, outputDims[0]!, (x, y) => x * y),
  sub: (inputs, _, { outputDims }) => binary<number>(inputs, outputDims[0]!, (x, y) => x - y),
  div: (inputs, _, { outputDims }) => binary<number>(inputs, outputDims[0]!, (x, y) => x / y),
  max: (inputs, _, { outputDims }) => binary<number>(inputs, outputDims[0]!, larger),
  min: (inputs, _, { outputDims }) => binary<number>(inputs, outputDims[0]!, (x, y) => (larger(x, y) === x ? y : x)),
  less: (inputs, _, { outputDims }) => binary<number>(inputs, outputDims[0]!, (x, y) => x < y, 'bool'),
  equal: (inputs, _, { outputDims }) => binary<number>(inputs, outputDims[0]!, (x, y) => x === y, 'bool'),
  where,
  constant: (_inputs, { value, dtype }) => unary(zeros(dtype, []), () => value),
  exp: ({ x }) => unary(x, Math.exp),
  sqrt: ({ x }) => unary(x, Math.sqrt),
  tanh: ({ x }) => unary(x, Math.tanh),
  addScalar: ({ x }, { value }) => unary(x, (element) => element + value),
  divScalar: ({ x }, { value }) => unary(x, (element) => element / value),
  mulScalar: ({ x }, { value }) => unary(x, (element) => element * value),
  floor: ({ x }) => unary(x, Math.floor),
  log: ({ x }) => unary(x, Math.log),
  sigmoid: ({ x }) => unary(x, sigmoidOf),
  gelu: ({ x }) => unary(x, (element) => (element / 2) * (1 + erfOf(element / Math.SQRT2))),
  cast,
} satisfies Partial<Kernels>;
