import { type BlockTypeName, blockTypes, type StorageFormat } from '@graft/graph';

const plainFormats: Readonly<Record<string, StorageFormat>> = { F16: 'float16', BF16: 'bfloat16' };

/**
 * Matrices stay as the checkpoint has them: blocks of GGML, bfloat16, float16. A matrix that is stacked from tensors of several types, and one in another
 * quantised form, becomes float16. Vectors and the router, which decide much and weigh little, are float32.
 */
export function ggmlPolicy({
  name,
  shape,
  sources,
}: {
  name: string;
  shape: readonly number[];
  sources: readonly string[];
}): StorageFormat {
  if (shape.length < 2 || name.endsWith('.router.weight')) return 'float32';
  const [type, ...others] = sources as [string, ...string[]];
  const block = blockTypes[type as BlockTypeName];
  if (others.length === 0 && block !== undefined && shape.at(-1)! % block.elements === 0) return `ggml.${type as BlockTypeName}`;
  if (others.length === 0) return plainFormats[type] ?? (type === 'F32' ? 'float32' : 'float16');
  return sources.every((source) => source === 'F32' || source in plainFormats) ? 'float32' : 'float16';
}
