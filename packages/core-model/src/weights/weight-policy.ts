import { quantBlock, type StorageFormat } from '@graft/graph';

/** A parameter of the model, and the dtypes of its tensors, each once. */
export interface PolicySubject {
  readonly name: string;
  readonly shape: readonly number[];
  readonly sources: readonly string[];
}

/** Chooses the format of a parameter. A platform brings its own. */
export type WeightPolicy = (parameter: PolicySubject) => StorageFormat;

/** Everything in float32, which is exact for every checkpoint. */
export const float32Policy: WeightPolicy = Object.freeze(() => 'float32' as const); // frozen: a constant, which engines may share

const quantized = new Set(['Q4_0', 'Q4_1', 'Q8_0']);

/**
 * The smallest format that does not change the answers. A quantised checkpoint keeps its own grid: Q4_0 as 4 bit, Q4_1 as 4 bit with offsets, and
 * a parameter with some Q8_0 as 8 bit. Everything else is float32, also vectors and the router, which decide much and weigh little.
 */
export const faithfulPolicy: WeightPolicy = Object.freeze<WeightPolicy>(({ name, shape, sources }) => {
  if (shape.length < 2 || shape.at(-1)! % quantBlock !== 0 || name.endsWith('.router.weight')) return 'float32';
  if (!sources.some((dtype) => quantized.has(dtype))) return 'float32';
  if (sources.every((dtype) => dtype === 'Q4_0')) return 'int4b32';
  return sources.every((dtype) => dtype === 'Q4_0' || dtype === 'Q4_1') ? 'int4b32o' : 'int8b32';
});
