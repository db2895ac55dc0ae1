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
  /** Whether layers with a window may have a rope base of their own. */
  localRope?: boolean;
  rules?: GgufWeights['rules'];
}

/**
 * Reads the GGUFs of a family in Llama's form.
 * @param names of `general.architecture`.
 */
export function llamaGguf(
  architecture: string,
  names: readonly string[],
  { config = () => ({}), inPairs = false, localRope = false, rules = {} }: LlamaGguf = {},
): GgufReading<LlamaConfig> {
  return {
    architectures: names,
    config(file) {
      const metadata = new GgufMetadata(file);
      const shared = ggufDecoderConfig(file);
      const [base, local] = [metadata.get('rope.freq_base') ?? 10_000, metadata.get('rope.freq_base_swa')];
      if (!localRope && local !== undefined && local !== base)
        metadata.refuse(`Layers with a window have a rope base of their own, ${String(local)}.`);
      const rotated = metadata.get('rope.dimension_count') ?? shared['head_dim'];
      if (inPairs && rotated !== shared['head_dim'])
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
