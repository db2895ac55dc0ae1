import { architecturesOf, openCheckpoint } from '@graft/core-model';

export interface ModelDescription {
  /** As the file names it: `general.architecture` of a GGUF, the first of the `architectures` of a config.json. */
  readonly architecture: string;
  /** The `quant_method` of a config.json, if any, then the tensors' types, those with most bytes first. */
  readonly types: readonly string[];
}

/** What a model's files say that it is; weights are not read, and no family needs to know it. @throws what opening a checkpoint throws. */
export async function describeModel(path: string): Promise<ModelDescription> {
  using checkpoint = await openCheckpoint(path);
  const { config, metadata, tensors } = checkpoint;
  const bytes = new Map<string, number>();
  for (const { dtype, byteLength } of tensors.values()) bytes.set(dtype, (bytes.get(dtype) ?? 0) + byteLength);
  const types = [...bytes.keys()].sort((a, b) => bytes.get(b)! - bytes.get(a)!);
  const method = (config as { quantization_config?: { quant_method?: string } } | null)?.quantization_config?.quant_method;
  const architecture = metadata === null ? architecturesOf(config, path)[0]! : String(metadata.get('general.architecture'));
  return { architecture, types: method === undefined ? types : [method, ...types] };
}
