import { LogitBiasTokenError } from './errors.ts';
import type { SamplingParams } from './sampling-params.ts';

/** A sequence as a logits processor sees it. */
export interface ProcessedSequence {
  readonly sampling: SamplingParams;
  readonly promptIds: readonly number[];
  readonly vocabSize: number;
}

/** A processor for one sequence, with its state. */
export interface SequenceProcessor {
  /** Changes `logits` `[vocabSize]` in place. -Infinity forbids a token. */
  apply(logits: Float32Array): void;
  /** Called with each chosen or forced token. */
  take?(tokenId: number): void;
}

/** Changes the logits of sequences before a token is chosen. Processors run in order, before temperature, min-p, top-k and top-p. */
export interface LogitsProcessor {
  readonly name: string;
  /** Called once per sequence. Null: nothing changes for this sequence. */
  start(sequence: ProcessedSequence): SequenceProcessor | null;
}

/** Adds `logitBias`. @throws LogitBiasTokenError */
const logitBias: LogitsProcessor = {
  name: 'logit bias',
  start({ sampling, vocabSize }) {
    const biases = Object.entries(sampling.logitBias).map(([id, bias]) => [Number(id), bias] as const);
    for (const [tokenId] of biases) if (tokenId >= vocabSize) throw new LogitBiasTokenError(tokenId, vocabSize);
    if (biases.length === 0) return null;
    return {
      apply(logits) {
        for (const [tokenId, bias] of biases) logits[tokenId]! += bias;
      },
    };
  },
};

/** Makes tokens of prompt and answer less likely (CTRL; Keskar et al., section 4.1). */
const repetitionPenalty: LogitsProcessor = {
  name: 'repetition penalty',
  start({ sampling: { repetitionPenalty: penalty }, promptIds }) {
    if (penalty === 1) return null;
    const seen = new Set(promptIds);
    return {
      apply(logits) {
        for (const tokenId of seen) {
          const logit = logits[tokenId]!;
          logits[tokenId] = logit > 0 ? logit / penalty : logit * penalty;
        }
      },
      take: (tokenId) => void seen.add(tokenId),
    };
  },
};

/** OpenAI's penalties: one for each occurrence of a token in the answer, one for its presence. */
const frequencyAndPresencePenalty: LogitsProcessor = {
  name: 'frequency and presence penalty',
  start({ sampling: { frequencyPenalty, presencePenalty } }) {
    if (frequencyPenalty === 0 && presencePenalty === 0) return null;
    const counts = new Map<number, number>();
    return {
      apply(logits) {
        for (const [tokenId, count] of counts) logits[tokenId]! -= frequencyPenalty * count + presencePenalty;
      },
      take: (tokenId) => void counts.set(tokenId, (counts.get(tokenId) ?? 0) + 1),
    };
  },
};

/** The processors of the OpenAI API and of vLLM, in the order of their execution. */
export const apiLogitsProcessors: readonly LogitsProcessor[] = [logitBias, repetitionPenalty, frequencyAndPresencePenalty];
