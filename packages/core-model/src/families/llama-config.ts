import { z } from 'zod';
import type { FusedMoeOptions } from '../layers/fused-moe.ts';
import type { RopeConfig } from '../layers/rotary.ts';
import { type CamelKeys, invalid, positive } from './config-keys.ts';
import { type DecoderConfig, type DecoderDefaults, decoderConfig } from './config-schema.ts';

/** Settings that may change from layer to layer. */
export interface LlamaLayerConfig {
  /** Null: no positions. */
  readonly rope: RopeConfig | null;
  /** Tokens that a query sees, itself included; null: all before it. */
  readonly window: number | null;
  /** Experts instead of one feed-forward part. */
  readonly moe: boolean;
}

/** Routed experts; `bias` is of the router and the experts. */
export interface MoeConfig extends FusedMoeOptions {
  readonly numExperts: number;
  readonly topK: number;
  readonly intermediateSize: number;
}

/** Settings in which families of Llama's form differ. */
export interface LlamaParts {
  readonly activation: 'silu' | 'geluTanh';
  readonly qkvBias: boolean;
  /** Of the output projection. */
  readonly attentionBias: boolean;
  readonly mlpBias: boolean;
  /** Norms of queries and keys: over each head, or over all heads together. */
  readonly qkNorm: 'head' | 'all' | null;
  /** A layer's norms: before each of its parts (Llama), after it (OLMo 2), or both (Gemma 2). */
  readonly norms: 'before' | 'after' | 'both';
  /** Norms multiply by one plus the weight. */
  readonly gemmaNorm: boolean;
  /** Factor of the scores. */
  readonly attentionScale: number;
  /** See `ops.attention`. */
  readonly attentionSoftcap: number | null;
  readonly sinks: boolean;
  readonly moe: MoeConfig | null;
  /** Factor of the embeddings. */
  readonly embeddingScale: number;
  /** Factor of what a layer's parts add to the residual stream. */
  readonly residualScale: number;
  /** Divisor of the logits. */
  readonly logitsScale: number;
  /** Bound of the logits: cap * tanh(logit / cap). */
  readonly logitsSoftcap: number | null;
}

/** The config of every model in Llama's form. */
export interface LlamaConfig extends DecoderConfig, LlamaParts {
  /** Of a dense layer. */
  readonly intermediateSize: number;
  readonly layers: readonly LlamaLayerConfig[];
}

/** A family's rules by the index of a layer. `layer_types` in config.json wins over `windowed`, unless `windowsAreFixed`. */
interface LayerRules {
  /** Of a config without the key `sliding_window`; null turns windows off. */
  readonly usualWindow?: number;
  readonly windowsAreFixed?: boolean;
  readonly windowed?: (layer: number) => boolean;
  readonly rotated?: (layer: number) => boolean;
  readonly sparse?: (layer: number) => boolean;
}

/** Keys of all families in Llama's form. */
const llamaKeys = {
  intermediate_size: positive,
  hidden_act: z.enum(['silu', 'swish']).default('silu'),
  attention_bias: z.boolean().default(false),
  mlp_bias: z.boolean().default(false),
  sliding_window: positive.nullish(),
};

/** Of families that have this key. False: `sliding_window` has no effect. */
export const windowSwitch = { use_sliding_window: z.boolean().default(false) };
type Given<Own extends z.ZodRawShape> = DecoderConfig & CamelKeys<Omit<typeof llamaKeys, keyof Own> & Own>;

/**
 * The schema of a config.json whose model has Llama's form.
 * @param own the family's keys; they replace a Llama's key of the same name.
 * @param parts the settings that differ from a Llama's.
 */
export function llamaConfig<Own extends z.ZodRawShape>(
  own: Own,
  parts: (config: Given<Own>, context: z.RefinementCtx) => Partial<LlamaParts> & LayerRules = () => ({}),
  defaults: DecoderDefaults = {},
) {
  return decoderConfig({ ...llamaKeys, ...own }, defaults).transform((parsed, context): LlamaConfig => {
    const given = parsed as unknown as Given<typeof llamaKeys & typeof windowSwitch>;
    const {
      windowed = () => true,
      rotated = () => true,
      sparse = () => true,
      windowsAreFixed = false,
      usualWindow = null,
      ...rest
    } = parts(parsed as unknown as Given<Own>, context);
    const {
      slidingWindow = usualWindow,
      useSlidingWindow = true,
      hiddenAct: _,
      mlpBias,
      attentionBias,
      intermediateSize,
      ...config
    } = given;
    const window = useSlidingWindow ? slidingWindow : null;
    const moe = rest.moe ?? null;
    const layers = Array.from({ length: config.numHiddenLayers }, (_, i): LlamaLayerConfig => {
      const type = config.layerTypes?.[i];
      if (type !== undefined && type !== 'full_attention' && (type !== 'sliding_attention' || slidingWindow === null))
        invalid(context, `A layer of type "${type}" is not computed`, ['layer_types', i]);
      const isWindowed = type === undefined ? windowed(i) : type === 'sliding_attention';
      if (windowsAreFixed && window !== null && isWindowed !== windowed(i))
        invalid(context, `The type of a layer does not change its window, and "${type}" differs from sliding_window`, ['layer_types', i]);
      return {
        rope: rotated(i) ? ((isWindowed ? config.localRope : null) ?? config.rope) : null,
        window: isWindowed && window !== null && window < config.maxPositionEmbeddings ? window : null,
        moe: moe !== null && sparse(i),
      };
    });
    if (moe !== null && moe.topK > moe.numExperts) invalid(context, `${moe.topK} of ${moe.numExperts} experts cannot be chosen`, []);
    return {
      ...config,
      intermediateSize,
      activation: 'silu',
      qkvBias: attentionBias,
      attentionBias,
      mlpBias,
      qkNorm: null,
      norms: 'before',
      gemmaNorm: false,
      attentionScale: config.headDim ** -0.5,
      attentionSoftcap: null,
      sinks: false,
      moe,
      embeddingScale: 1,
      residualScale: 1,
      logitsScale: 1,
      logitsSoftcap: null,
      ...rest,
      layers,
    };
  });
}
