import type { HostTensor } from '../backend.ts';
import type { KernelContext } from '../ops/define-op.ts';
import { asRows, elementCount, float32, floatsOf, numbersOf, zeros } from './host-tensor.ts';
import type { Kernel, Kernels } from './kernel.ts';

/** Sum of the products of `count` elements, in float64. */
export function dot(a: Float32Array, aStart: number, b: Float32Array, bStart: number, count: number): number {
  let sum = 0;
  for (let i = 0; i < count; i++) sum += a[aStart + i]! * b[bStart + i]!;
  return sum;
}

const linear: Kernel<'linear'> = ({ x, weight, bias }, _attributes, { outputDims }) => {
  const result = zeros('float32', outputDims[0]!);
  const { rows, columns } = asRows(x);
  const size = weight.dims[0]!;
  const [source, factors] = [floatsOf(x), floatsOf(weight)];
  const offsets = bias === null ? null : floatsOf(bias);
  for (let row = 0; row < rows; row++) {
    for (let i = 0; i < size; i++)
      result.data[row * size + i] = dot(source, row * columns, factors, i * columns, columns) + (offsets?.[i] ?? 0);
  }
  return [result];
};

/** Row `indices[i]` of `table`, seen as `[rows, columns]`, becomes row i. */
function takeRows(table: HostTensor, indices: HostTensor, { outputDims, fail }: KernelContext): readonly HostTensor[] {
  const columns = table.dims.at(-1)!;
  const count = elementCount(table.dims) / columns;
  const result = zeros(table.dtype, outputDims[0]!);
  for (const [i, index] of Array.from(numbersOf(indices)).entries()) {
    if (!(index >= 0 && index < count)) fail(`Index ${index} is outside of the ${count} rows.`);
    result.data.set(table.data.subarray(index * columns, (index + 1) * columns) as never, i * columns);
  }
  return [result];
}

const embedding: Kernel<'embedding'> = ({ ids, weight }, _attributes, context) => takeRows(weight, ids, context);

const gatherRows: Kernel<'gatherRows'> = ({ x, indices }, _attributes, context) => takeRows(x, indices, context);

const rmsNorm: Kernel<'rmsNorm'> = ({ x, weight }, { epsilon }) => {
  const [source, factors] = [floatsOf(x), weight === null ? null : floatsOf(weight)];
  const { columns } = asRows(x);
  const result = new Float32Array(source.length);
  for (let start = 0; start < source.length; start += columns) {
    const factor = 1 / Math.sqrt(dot(source, start, source, start, columns) / columns + epsilon);
    for (let i = 0; i < columns; i++) result[start + i] = source[start + i]! * factor * (factors?.[i] ?? 1);
  }
  return [float32(x.dims, result)];
};

/** Indices of the `count` largest of `values`, largest first; of two equal ones the lower. */
export function topIndices(values: Float32Array, count: number): number[] {
  return [...values.keys()].sort((a, b) => values[b]! - values[a]! || a - b).slice(0, count);
}

const reshape: Kernel<'reshape'> = ({ x }, _attributes, { outputDims }) => [{ ...x, dims: outputDims[0]! }];

const zerosLike: Kernel<'zerosLike'> = ({ x }) => [zeros(x.dtype, x.dims)];

export const dense = { linear, embedding, rmsNorm, reshape, gatherRows, zerosLike } satisfies Partial<Kernels>;
