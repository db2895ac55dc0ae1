import { halvesFromPairs } from '../weights/rules.ts';
import { type GgufWeights, ggufWeights } from './decoder-weights.ts';
import type { GgufReading, RawConfig } from './family.ts';
import { GgufMetadata, ggufDecoderConfig } from './gguf-config.ts';
import type { LlamaConfig } from './llama-config.ts';

interface LlamaGguf {
  /** Keys of config.json that the family adds to those of every decoder, or replaces. */
  config?: (metadata: GgufMetadata, shared: Readonly<Record<string, unknown>>) => RawConfig;
  /** Whether llama.cpp's converter puts the rows of q and k in pairs, so that neighbours rotate together. */
  inPairs?: boolean;
  /** One layer in so many has no window. */
  windowPattern?: number;
  rules?: GgufWeights['rules'];
}

/**
 * Reads the GGUFs of a family in Llama's form.
 * @param names of `general.architecture`.
 */
export function llamaGguf(
  architecture: string,
  names: readonly string[],
  { config = () => ({}), inPairs = false, windowPattern, rules = {} }: LlamaGguf = {},
): GgufReading<LlamaConfig> {
  return {
    architectures: names,
    config(file) {
      const metadata = new GgufMetadata(file);
      const shared = ggufDecoderConfig(file);
      const pattern = metadata.get('attention.sliding_window_pattern') ?? windowPattern;
      if (pattern !== windowPattern)
        metadata.refuse(`The layers with a window are chosen by "attention.sliding_window_pattern" ${String(pattern)}.`);
      const rotated = metadata.get('rope.dimension_count') ?? shared['head_dim'];
      if ((inPairs || metadata.architecture === 'gemma3') && rotated !== shared['head_dim'])
        metadata.refuse(`Only ${String(rotated)} of ${String(shared['head_dim'])} dimensions of a head are rotated.`);
      return { architectures: [architecture], ...shared, ...config(metadata, shared) };
    },
    weights: (parsed) => ggufWeights(parsed, { rules, ...(inPairs && { rows: halvesFromPairs(parsed.headDim) }) }),
  };
}

/** Keys of experts, as Mixtral names them. */
export const ggufExperts = (metadata: GgufMetadata): RawConfig => ({
  num_local_experts: metadata.number('expert_count'),
  num_experts_per_tok: metadata.number('expert_used_count'),
});
