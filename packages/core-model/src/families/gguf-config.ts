import { at, CheckpointCorruptError, GgufUnsupportedError } from '../weights/errors.ts';
import type { GgufFile } from './family.ts';

const largestLayerCount = 10_000;

/** The metadata keys that begin with a GGUF's architecture. */
export class GgufMetadata {
  private readonly file: GgufFile;
  readonly architecture: string;

  constructor(file: GgufFile) {
    this.file = file;
    this.architecture = String(file.metadata.get('general.architecture'));
  }

  get(key: string): unknown {
    return this.file.metadata.get(`${this.architecture}.${key}`);
  }

  /** @throws CheckpointCorruptError for a key without value or `fallback`, or a value that is not a positive number. */
  number(key: string, fallback?: number): number {
    const value = this.get(key) ?? fallback;
    const limit = key === 'block_count' ? largestLayerCount : Number.POSITIVE_INFINITY;
    if (typeof value === 'number' && Number.isFinite(value) && value > 0 && value <= limit) return value;
    const found = value === undefined ? 'missing' : String(value);
    const what = `The metadata key "${this.architecture}.${key}" is ${found}, and should be a positive number.`;
    throw new CheckpointCorruptError(what, this.file.path);
  }

  /** @throws GgufUnsupportedError */
  refuse(what: string, tensor?: string, fix = 'use another model, or the safetensors checkpoint of this one.'): never {
    throw new GgufUnsupportedError(what, at(this.file.path, tensor), { fix });
  }
}

/**
 * The config.json of a decoder's GGUF, from the metadata that every decoder has. Not validated: the family's schema does that.
 * @throws GgufUnsupportedError for a rope scaling that cannot be expressed, CheckpointCorruptError for a missing key.
 */
export function ggufDecoderConfig(file: GgufFile): Record<string, unknown> {
  const metadata = new GgufMetadata(file);
  const heads = metadata.number('attention.head_count');
  const hidden = metadata.number('embedding_length');
  return {
    hidden_size: hidden,
    num_hidden_layers: metadata.number('block_count'),
    num_attention_heads: heads,
    num_key_value_heads: metadata.number('attention.head_count_kv', heads),
    head_dim: metadata.number('attention.key_length', hidden / heads),
    intermediate_size: metadata.number('feed_forward_length'),
    rms_norm_eps: metadata.number('attention.layer_norm_rms_epsilon'),
    max_position_embeddings: metadata.number('context_length'),
    rope_parameters: ropeParameters(metadata),
    vocab_size: vocabularySize(file, metadata),
    tie_word_embeddings: !file.tensors.has('output.weight'),
    ...tokenIds(file),
  };
}

function ropeParameters(metadata: GgufMetadata): Record<string, unknown> {
  const rope_theta = metadata.get('rope.freq_base') ?? 10000;
  const linear = metadata.get('rope.scale_linear');
  const type = metadata.get('rope.scaling.type') ?? (linear === undefined ? 'none' : 'linear');
  const factor = metadata.get('rope.scaling.factor') ?? linear ?? 1;
  if (type === 'none' || (type === 'linear' && factor === 1)) return { rope_type: 'default', rope_theta };
  if (type === 'linear') return { rope_type: 'linear', factor, rope_theta };
  const what = `The metadata key "${metadata.architecture}.rope.scaling.type" is ${JSON.stringify(type)}; supported are "none" and "linear".`;
  return metadata.refuse(what, undefined, 'use a GGUF without this scaling.');
}

function vocabularySize({ path, tensors }: GgufFile, metadata: GgufMetadata): number {
  const size = tensors.get('token_embd.weight')?.shape[0] ?? metadata.get('vocab_size');
  if (typeof size === 'number') return size;
  throw new CheckpointCorruptError(
    `The GGUF has neither "token_embd.weight" nor the metadata key "${metadata.architecture}.vocab_size".`,
    path,
  );
}

function tokenIds({ metadata }: GgufFile): Record<string, unknown> {
  const ids = ['bos', 'eos'].map((name) => [`${name}_token_id`, metadata.get(`tokenizer.ggml.${name}_token_id`)] as const);
  return Object.fromEntries(ids.filter(([, id]) => typeof id === 'number'));
}
