import { quantBlock, type StorageFormat } from '@graft/graph';

/** What a policy knows of a parameter: its name and shape in the model, and the dtypes of the tensors that it is made of, each once. */
export interface PolicySubject {
  readonly name: string;
  readonly shape: readonly number[];
  readonly sources: readonly string[];
}

/** Chooses the form in which a parameter is kept. A platform brings its own. */
export type WeightPolicy = (parameter: PolicySubject) => StorageFormat;

/** Everything in float32: the exact form of every checkpoint that can be read. */
export const float32Policy: WeightPolicy = Object.freeze(() => 'float32' as const); // frozen: a constant, which engines may share

const quantized = new Set(['Q4_0', 'Q4_1', 'Q8_0']);

/**
 * The smallest form that does not change the answers (onnxruntime-notes, section 4): a quantised checkpoint keeps its own grid
 * (Q4_0 as 4 bit, Q4_1 as 4 bit with offsets, what has Q8_0 in it as 8 bit), everything else is float32. Vectors and the router, which decide much
 * and weigh little, are float32.
 */
export const faithfulPolicy: WeightPolicy = Object.freeze<WeightPolicy>(({ name, shape, sources }) => {
  if (shape.length < 2 || shape.at(-1)! % quantBlock !== 0 || name.endsWith('.router.weight')) return 'float32';
  if (!sources.some((dtype) => quantized.has(dtype))) return 'float32';
  if (sources.every((dtype) => dtype === 'Q4_0')) return 'int4b32';
  return sources.every((dtype) => dtype === 'Q4_0' || dtype === 'Q4_1') ? 'int4b32o' : 'int8b32';
});
