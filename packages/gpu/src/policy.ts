import { type BlockTypeName, blockTypes, formatOfRanges, type StorageFormat } from '@graft/graph';

/** A parameter as a `WeightPolicy` gets it. */
interface Subject {
  readonly name: string;
  readonly shape: readonly number[];
  readonly sources: readonly string[];
  readonly stack: readonly { readonly dtype: string; readonly rows: number }[] | null;
}

const plainFormats: Readonly<Record<string, StorageFormat>> = { F32: 'float32', F16: 'float16', BF16: 'bfloat16' };

function formatOf({ name, shape, sources, stack }: Subject): StorageFormat {
  if (shape.length < 2 || name.endsWith('.router.weight')) return 'float32';
  const kept = (dtype: string): StorageFormat => ownFormat(dtype, shape.at(-1)!) ?? 'float16';
  if (sources.length === 1) return kept(sources[0]!);
  return stack === null ? 'float16' : formatOfRanges(stack.map(({ dtype, rows }) => ({ format: kept(dtype), rows })));
}

/** The format that keeps a type as it is; null where ggml has none. */
function ownFormat(dtype: string, columns: number): StorageFormat | null {
  const block = blockTypes[dtype as BlockTypeName];
  if (block === undefined) return plainFormats[dtype] ?? null;
  return columns % block.elements === 0 ? `ggml.${dtype as BlockTypeName}` : null;
}

/**
 * Matrices stay as the checkpoint has them, in its file: blocks of GGML, bfloat16, float16. Where one is stacked from tensors of several types, each part keeps
 * its own. A matrix in another quantised form becomes float16. Vectors and the router, which decide much and weigh little, are float32.
 */
export const ggmlPolicy = Object.freeze(Object.assign(formatOf, { mapsCheckpoint: true }));
