import type { HostTensor } from '../backend.ts';
import { asRows, elementCount, float32, floatsOf, numbersOf, zeros } from './host-tensor.ts';
import type { Kernel, Kernels } from './kernel.ts';

const permute: Kernel<'permute'> = ({ x }, { axes }, { outputDims }) => {
  const result = zeros(x.dtype, outputDims[0]!);
  const [source, target] = [x.data, result.data] as unknown as [number[], number[]];
  const strides = x.dims.map((_, axis) => elementCount(x.dims.slice(axis + 1)));
  for (let i = 0; i < target.length; i++) {
    let rest = i;
    let from = 0;
    for (let axis = axes.length - 1; axis >= 0; axis--) {
      from += (rest % result.dims[axis]!) * strides[axes[axis]!]!;
      rest = Math.floor(rest / result.dims[axis]!);
    }
    target[i] = source[from]!;
  }
  return [result];
};

/** `count` blocks of `size` elements, one every `fromStride`, to one every `toStride`. */
interface Blocks {
  count: number;
  size: number;
  from: number;
  fromStride: number;
  to: number;
  toStride: number;
}

function copyBlocks(source: HostTensor, target: HostTensor, { count, size, from, fromStride, to, toStride }: Blocks): void {
  for (let block = 0; block < count; block++) {
    const start = from + block * fromStride;
    target.data.set(source.data.subarray(start, start + size) as never, to + block * toStride);
  }
}

const concat: Kernel<'concat'> = ({ a, b }, { axis }, { outputDims }) => {
  const result = zeros(a.dtype, outputDims[0]!);
  const count = elementCount(a.dims.slice(0, axis));
  const [first, second] = [elementCount(a.dims.slice(axis)), elementCount(b.dims.slice(axis))];
  const toStride = first + second;
  copyBlocks(a, result, { count, size: first, from: 0, fromStride: first, to: 0, toStride });
  copyBlocks(b, result, { count, size: second, from: 0, fromStride: second, to: first, toStride });
  return [result];
};

const slice: Kernel<'slice'> = ({ x }, { axis, start, end }, { outputDims }) => {
  const result = zeros(x.dtype, outputDims[0]!);
  const inner = elementCount(x.dims.slice(axis + 1));
  const size = (end - start) * inner;
  const count = elementCount(x.dims.slice(0, axis));
  copyBlocks(x, result, { count, size, from: start * inner, fromStride: x.dims[axis]! * inner, to: 0, toStride: size });
  return [result];
};

const replaceRows: Kernel<'replaceRows'> = ({ x, rows, indices }, _attributes, { fail }) => {
  const result = floatsOf(x).slice();
  const source = floatsOf(rows);
  const { rows: count, columns } = asRows(rows);
  for (const [row, index] of Array.from(numbersOf(indices)).entries()) {
    if (index < 0) continue;
    if (index >= count) fail(`Index ${index} is outside of the ${count} rows.`);
    result.set(source.subarray(index * columns, (index + 1) * columns), row * columns);
  }
  return [float32(x.dims, result)];
};

export const layout = { permute, concat, slice, replaceRows } satisfies Partial<Kernels>;
