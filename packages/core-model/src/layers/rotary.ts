import { Buffer, Module, ops, type Tensor } from '@graft/graph';
import type { RopeConfig } from '../families/config-schema.ts';

/**
 * Rotates queries and keys by their absolute positions (RoFormer, section 3.4.2; vLLM: `get_rope`). The elements of a pair are half a head apart, or
 * neighbours where `interleaved`. The tables are sized by the served length, not by the model's limit.
 */
export class RotaryEmbedding extends Module {
  readonly headDim: number;
  readonly interleaved: boolean;
  /** `[maxPositions, headDim / 2]` */
  readonly cosCache: Buffer;
  readonly sinCache: Buffer;

  constructor(headDim: number, maxPositions: number, rope: RopeConfig, { interleaved = false }: { interleaved?: boolean } = {}) {
    super();
    this.headDim = headDim;
    this.interleaved = interleaved;
    const frequencies = inverseFrequencies(headDim, rope);
    const shape = [maxPositions, frequencies.length];
    const angles = Float32Array.from({ length: maxPositions * frequencies.length }, (_, i) =>
      Math.fround(Math.floor(i / frequencies.length) * frequencies[i % frequencies.length]!),
    );
    this.cosCache = new Buffer(shape, angles.map(Math.cos));
    this.sinCache = new Buffer(shape, angles.map(Math.sin));
  }

  /** `positions [batch, sequence]`, `query [batch, sequence, heads * headDim]`, `key` likewise -> both, rotated. */
  forward(positions: Tensor, query: Tensor, key: Tensor): [Tensor, Tensor] {
    return [this.rotate(query, positions), this.rotate(key, positions)];
  }

  private rotate(x: Tensor, positions: Tensor): Tensor {
    const numHeads = x.dim(-1).dividedBy(this.headDim).value;
    const { headDim, interleaved, cosCache: cos, sinCache: sin } = this;
    return ops.rotaryEmbedding({ x, positions, cos, sin }, { numHeads, headDim, interleaved });
  }
}

/** Radians per position for each pair of a head, in float32 as in the published implementation. `[headDim / 2]`. */
export function inverseFrequencies(headDim: number, rope: RopeConfig): Float32Array {
  const plain = Float32Array.from({ length: headDim / 2 }, (_, i) => 1 / rope.theta ** ((2 * i) / headDim));
  switch (rope.type) {
    case 'default':
      return plain;
    case 'linear':
      return plain.map((frequency) => frequency / rope.factor);
    case 'llama3':
      return plain.map((frequency) => llama3Frequency(frequency, rope));
  }
}

/** Llama 3.1's scaling: long wavelengths are stretched by the factor, short ones stay, and those between are mixed. */
function llama3Frequency(frequency: number, rope: Extract<RopeConfig, { type: 'llama3' }>): number {
  const wavelength = (2 * Math.PI) / frequency;
  const original = rope.originalMaxPositionEmbeddings;
  if (wavelength > original / rope.lowFreqFactor) return frequency / rope.factor;
  if (wavelength < original / rope.highFreqFactor) return frequency;
  const smooth = (original / wavelength - rope.lowFreqFactor) / (rope.highFreqFactor - rope.lowFreqFactor);
  return ((1 - smooth) * frequency) / rope.factor + smooth * frequency;
}
