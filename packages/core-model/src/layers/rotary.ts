import { Buffer, Module, ops, type Tensor } from '@graft/graph';

interface RopeBase {
  theta: number;
  /** The part of a head, from its start, that is rotated. Default: all of it. */
  partialRotaryFactor?: number;
}

/** How positions become rotations. The types other than `factors` scale as the published configs of their name say; transformers: `ROPE_INIT_FUNCTIONS`. */
export type RopeConfig = RopeBase &
  (
    | { type: 'default' }
    | { type: 'linear'; factor: number }
    | { type: 'llama3'; factor: number; lowFreqFactor: number; highFreqFactor: number; originalMaxPositionEmbeddings: number }
    | {
        type: 'yarn';
        factor: number;
        originalMaxPositionEmbeddings: number;
        betaFast: number;
        betaSlow: number;
        /** Whether the range of mixed frequencies is rounded to whole pairs. */
        truncate: boolean;
        /** Factor of the rotated elements. */
        attentionFactor: number;
      }
    | {
        type: 'longrope';
        /** Divisors of the frequencies, one for each pair. */
        shortFactor: readonly number[];
        longFactor: readonly number[];
        originalMaxPositionEmbeddings: number;
        attentionFactor: number;
      }
    /** Divisors of the frequencies, one for each pair: a GGUF's `rope_freqs.weight`. */
    | { type: 'factors'; factors: readonly number[] }
  );

type RopeOf<Type extends RopeConfig['type']> = Extract<RopeConfig, { type: Type }>;

/**
 * Rotates queries and keys by their absolute positions (RoFormer, section 3.4.2; vLLM: `get_rope`). The elements of a pair are half the rotated part apart,
 * or neighbours where `interleaved`. The tables are sized by the served length, not by the model's limit. Under `longrope` the long factors count for every
 * sequence where more than the original length is served, as in vLLM and llama.cpp: keys in the cache are never turned again.
 */
export class RotaryEmbedding extends Module {
  readonly headDim: number;
  /** Elements of a head that are rotated. */
  readonly rotaryDim: number;
  readonly interleaved: boolean;
  /** `[maxPositions, rotaryDim / 2]` */
  readonly cosCache: Buffer;
  readonly sinCache: Buffer;

  constructor(
    headDim: number,
    maxPositions: number,
    rope: RopeConfig,
    { interleaved = false, rotaryDim }: { interleaved?: boolean; rotaryDim?: number } = {},
  ) {
    super();
    this.headDim = headDim;
    this.rotaryDim = rotaryDim ?? Math.trunc(headDim * (rope.partialRotaryFactor ?? 1));
    this.interleaved = interleaved;
    const frequencies = inverseFrequencies(this.rotaryDim, rope, maxPositions);
    const shape = [maxPositions, frequencies.length];
    const angles = Float32Array.from({ length: maxPositions * frequencies.length }, (_, i) =>
      Math.fround(Math.floor(i / frequencies.length) * frequencies[i % frequencies.length]!),
    );
    const factor = rope.type === 'yarn' || rope.type === 'longrope' ? rope.attentionFactor : 1;
    const tableOf = (part: (angle: number) => number): Buffer =>
      new Buffer(
        shape,
        angles.map((angle) => Math.fround(part(angle)) * factor),
      );
    this.cosCache = tableOf(Math.cos);
    this.sinCache = tableOf(Math.sin);
  }

  /** `positions [batch, sequence]`, `query [batch, sequence, heads * headDim]`, `key` likewise -> both, rotated. */
  forward(positions: Tensor, query: Tensor, key: Tensor): [Tensor, Tensor] {
    return [this.rotate(query, positions), this.rotate(key, positions)];
  }

  private rotate(x: Tensor, positions: Tensor): Tensor {
    const numHeads = x.dim(-1).dividedBy(this.headDim).value;
    const { headDim, interleaved, rotaryDim, cosCache: cos, sinCache: sin } = this;
    return ops.rotaryEmbedding({ x, positions, cos, sin }, { numHeads, headDim, interleaved, rotaryDim });
  }
}

/**
 * Radians per position for each pair, in float32 as in the published implementation. `[rotaryDim / 2]`.
 * @param maxPositions the served length; `longrope` chooses its factors by it.
 */
export function inverseFrequencies(rotaryDim: number, rope: RopeConfig, maxPositions = 0): Float32Array {
  const plain = Float32Array.from({ length: rotaryDim / 2 }, (_, i) => 1 / rope.theta ** ((2 * i) / rotaryDim));
  switch (rope.type) {
    case 'default':
      return plain;
    case 'linear':
      return plain.map((frequency) => frequency / rope.factor);
    case 'llama3':
      return plain.map((frequency) => llama3Frequency(frequency, rope));
    case 'yarn':
      return yarnFrequencies(plain, rope);
    case 'longrope':
      return plain.map(
        (frequency, i) => frequency / (maxPositions > rope.originalMaxPositionEmbeddings ? rope.longFactor : rope.shortFactor)[i]!,
      );
    case 'factors':
      return plain.map((frequency, i) => frequency / rope.factors[i]!);
  }
}

/** Llama 3.1's scaling: long wavelengths are stretched by the factor, short ones stay, and those between are mixed. */
function llama3Frequency(frequency: number, rope: RopeOf<'llama3'>): number {
  const wavelength = (2 * Math.PI) / frequency;
  const original = rope.originalMaxPositionEmbeddings;
  if (wavelength > original / rope.lowFreqFactor) return frequency / rope.factor;
  if (wavelength < original / rope.highFreqFactor) return frequency;
  const smooth = (original / wavelength - rope.lowFreqFactor) / (rope.highFreqFactor - rope.lowFreqFactor);
  return ((1 - smooth) * frequency) / rope.factor + smooth * frequency;
}

/** Pairs that turn often within the original length are kept, those that turn little are stretched, with a ramp between (YaRN, section 3.2). */
function yarnFrequencies(plain: Float32Array, rope: RopeOf<'yarn'>): Float32Array {
  const dim = 2 * plain.length;
  const pairWith = (turns: number): number =>
    (dim * Math.log(rope.originalMaxPositionEmbeddings / (turns * 2 * Math.PI))) / (2 * Math.log(rope.theta));
  const range = [pairWith(rope.betaFast), pairWith(rope.betaSlow)] as const;
  const low = Math.max(rope.truncate ? Math.floor(range[0]) : range[0], 0);
  const high = Math.min(rope.truncate ? Math.ceil(range[1]) : range[1], dim - 1);
  return plain.map((frequency, i) => {
    const stretched = Math.min(1, Math.max(0, (i - low) / (high === low ? 0.001 : high - low)));
    return (stretched * frequency) / rope.factor + (1 - stretched) * frequency;
  });
}
