import { quantBlock, type StorageFormat } from '@graft/graph';
import { sourceTypes } from './quantize.ts';

/** A parameter of the model, and the dtypes of its tensors, each once. */
export interface PolicySubject {
  readonly name: string;
  readonly shape: readonly number[];
  readonly sources: readonly string[];
  /** The tensors that each matrix `[..., N, K]` is stacked from along N; null where it is made of rows otherwise. */
  readonly stack: readonly { readonly dtype: string; readonly rows: number }[] | null;
}

/** Chooses the format of a parameter. A platform brings its own. */
export interface WeightPolicy {
  (parameter: PolicySubject): StorageFormat;
  /**
   * Whether a tensor that a format keeps as it is may stay in the checkpoint's file and be mapped from there. That file must then not be written to while the
   * model serves; it may be replaced by another one of its name. Default: all weights are copied into the cache.
   */
  readonly mapsCheckpoint?: boolean;
}

/** Everything in float32, which is exact for every checkpoint. */
export const float32Policy: WeightPolicy = Object.freeze(() => 'float32' as const); // frozen: a constant, which engines may share

/**
 * The smallest format that does not change the answers: a quantised checkpoint keeps its own grid (docs/adr/0003), and tensors of several types that are stacked
 * take the smallest format that holds all of them. Everything else is float32, also vectors and the router, which decide much and weigh little.
 */
export const faithfulPolicy: WeightPolicy = Object.freeze<WeightPolicy>(({ name, shape, sources }) => {
  if (shape.length < 2 || shape.at(-1)! % quantBlock !== 0 || name.endsWith('.router.weight')) return 'float32';
  const forms = sources.map((dtype) => sourceTypes.get(dtype)?.form ?? null);
  if (forms.every((form) => form === null)) return 'float32';
  if (forms.every((form) => form === 'int4b32')) return 'int4b32';
  return forms.every((form) => form === 'int4b32' || form === 'int4b32o') ? 'int4b32o' : 'int8b32';
});
