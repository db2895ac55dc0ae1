import {
  AnyShapeRunner,
  BucketedModelRunner,
  type ModelRunner,
  type RunnerStats,
  type RunStep,
  WarmUpError,
  type WarmUpSummary,
} from '@graft/engine';
import { hasHeterogeneousLayers, layerKinds } from './layer-kinds.ts';
import { chunkedAttentionLayers } from './runner-patches.ts';

type Report = Parameters<ModelRunner['compile']>[0];

/** Runs a captured step op by op. Nothing is compiled. */
export class EagerRunner extends AnyShapeRunner {
  override get stats(): RunnerStats {
    return { ...super.stats, compiles: 0, optimisations: 0 };
  }
}

/** The most tokens of a piece that the validation warm-up computes in two ways. */
const mostValidated = 8;
/** Of the largest logit, or of 1. Another bucket rounds sums in another order. */
const tolerance = 1e-3;

/**
 * Runs a model bucket by bucket, with the engine's graphs and warm-up. It also knows the kinds of layers, and checks after the warm-up that padding does
 * not change their results. vllm_gaudi: `HPUModelRunner`; its model-specific patches are hooks of this plugin.
 */
export class HpuModelRunner extends BucketedModelRunner {
  /** Each once, in the order of the layers: `Llama4Moe over full`. */
  get layerKinds(): readonly string[] {
    return layerKinds(this.parts.model);
  }

  get hasHeterogeneousLayers(): boolean {
    return hasHeterogeneousLayers(this.parts.model);
  }

  /** Whether the hook `setChunkedAttention` marked a layer. */
  get hasChunkedAttention(): boolean {
    return chunkedAttentionLayers(this.parts.model).length > 0;
  }

  /**
   * Runs every graph of prompts and of decoding. A validation warm-up follows if layers differ, because one layer says little about another.
   * @throws WarmUpError for a bucket that gives NaN, different logits the second time, or different logits than its tokens one by one
   */
  override async warmUp(report: Report, signal?: AbortSignal): Promise<WarmUpSummary | null> {
    const summary = await super.warmUp(report, signal);
    if (summary !== null && this.hasHeterogeneousLayers) await this.validate(signal);
    return summary;
  }

  /**
   * Computes a piece of a prompt in the smallest padded bucket (two pieces for chunked layers), then again one token at a time. Padding, masks and caches
   * must not change the logits.
   */
  private async validate(signal?: AbortSignal): Promise<void> {
    const query = Math.min(...this.warm.filter((bucket) => bucket.query > 1).map((bucket) => bucket.query));
    if (!Number.isFinite(query) || !this.warm.some((bucket) => bucket.batch === 1 && bucket.query === 1)) return;
    const { maxModelLength, config } = this.parts.context;
    const pieces = this.hasChunkedAttention ? 2 : 1;
    const size = Math.min(query, mostValidated, Math.floor(maxModelLength / pieces), this.kvCache.roomAfter(0) / pieces) | 0;
    if (size < 2) return;
    const tokenIds = Array.from({ length: pieces * size }, (_, i) => (i * 7919 + 1) % config.vocabSize);
    const stepOf = (computed: number, count: number): RunStep => ({
      firstSlot: 0,
      rows: [{ tokenIds: tokenIds.slice(computed, computed + count), computed }],
      logits: 'last',
      ...(signal !== undefined && { signal }),
    });
    let together = new Float32Array();
    for (let computed = 0; computed < tokenIds.length; computed += size) together = (await this.run(stepOf(computed, size))).logits.slice();
    let single = new Float32Array();
    for (let computed = 0; computed < tokenIds.length; computed++) single = (await this.run(stepOf(computed, 1))).logits.slice();
    requireAlike(together, single, `1x${query}`);
  }
}

/** @throws WarmUpError */
function requireAlike(together: Float32Array, single: Float32Array, bucket: string): void {
  const unit = single.reduce((largest, logit) => Math.max(largest, Math.abs(logit)), 1);
  const at = together.findIndex((logit, i) => !(Math.abs(logit - single[i]!) <= tolerance * unit));
  if (at >= 0)
    throw new WarmUpError(
      `Logit ${at} of a padded prompt is ${together[at]}, but ${single[at]} when its tokens are computed one by one.`,
      bucket,
    );
}
