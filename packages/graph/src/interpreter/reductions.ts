import type { HostTensor } from '../backend.ts';
import { dot } from './dense.ts';
import { broadcastIndex } from './elementwise.ts';
import { asRows, elementCount, floatsOf, zeros } from './host-tensor.ts';
import type { Kernel, Kernels } from './kernel.ts';

/** Applies a function to each row, in float64. */
function perRow(x: HostTensor, dims: readonly number[], apply: (row: Float64Array) => ArrayLike<number>): readonly HostTensor[] {
  const result = zeros('float32', dims);
  const { rows, columns } = asRows(x);
  const size = result.data.length / rows;
  for (let row = 0; row < rows; row++) {
    const values = apply(Float64Array.from(floatsOf(x).subarray(row * columns, (row + 1) * columns)));
    (result.data as Float32Array).set(values, row * size);
  }
  return [result];
}

export function softmax(scores: Float64Array): Float64Array {
  const largest = maxOf(scores);
  const powers = scores.map((score) => Math.exp(score - largest));
  const sum = sumOf(powers);
  return powers.map((power) => power / sum);
}

const sumOf = (values: Float64Array): number => values.reduce((sum, value) => sum + value, 0);
const maxOf = (values: Float64Array): number => values.reduce((a, b) => Math.max(a, b), Number.NEGATIVE_INFINITY);

const matmul: Kernel<'matmul'> = ({ a, b }, _attributes, { outputDims }) => {
  const result = zeros('float32', outputDims[0]!);
  const [m, n] = result.dims.slice(-2) as [number, number];
  const k = a.dims.at(-1)!;
  const outer = result.dims.slice(0, -2);
  const [aAt, bAt] = [broadcastIndex(a.dims.slice(0, -2), outer), broadcastIndex(b.dims.slice(0, -2), outer)];
  const [left, right] = [floatsOf(a), floatsOf(b)];
  for (let at = 0; at < elementCount(outer); at++) {
    const matrix = bAt(at) * k * n;
    for (let column = 0; column < n; column++) {
      const values = Float32Array.from({ length: k }, (_, i) => right[matrix + i * n + column]!);
      for (let row = 0; row < m; row++) result.data[(at * m + row) * n + column] = dot(left, (aAt(at) * m + row) * k, values, 0, k);
    }
  }
  return [result];
};

export const reductions = {
  reduceSum: ({ x }, _, { outputDims }) => perRow(x, outputDims[0]!, (row) => [sumOf(row)]),
  reduceMean: ({ x }, _, { outputDims }) => perRow(x, outputDims[0]!, (row) => [sumOf(row) / row.length]),
  reduceMax: ({ x }, _, { outputDims }) => perRow(x, outputDims[0]!, (row) => [maxOf(row)]),
  softmax: ({ x }, _, { outputDims }) => perRow(x, outputDims[0]!, softmax),
  matmul,
} satisfies Partial<Kernels>;
