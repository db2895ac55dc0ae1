/** What a table of rotations was made of: pair i at position p turns by `p / factors[i]`, and is multiplied by `magnitude`. */
export interface FrequencyTable {
  readonly factors: Float32Array;
  readonly magnitude: number;
}

/**
 * Finds the frequencies of two tables `[positions, pairs]`, cosines and sines, so that ggml's own rotation can take their place. They are read from rows 1, 2,
 * 4, ... where each row makes the angle of the one before more exact. Null unless they give each element of the tables back, within the rounding of float32.
 */
export function frequenciesOf(cos: Float32Array, sin: Float32Array, positions: number): FrequencyTable | null {
  const pairs = cos.length / positions;
  const magnitude = positions > 1 ? Math.hypot(cos[pairs]!, sin[pairs]!) : (cos[0] ?? 1);
  const frequencies = new Float64Array(pairs);
  for (let row = 1; row < positions; row *= 2)
    for (let pair = 0; pair < pairs; pair++) {
      const at = row * pairs + pair;
      const angle = Math.atan2(sin[at]!, cos[at]!);
      const turns = Math.round((frequencies[pair]! * row - angle) / (2 * Math.PI));
      frequencies[pair] = row === 1 ? angle : (angle + 2 * Math.PI * turns) / row;
    }
  for (let row = 0; row < positions; row++) {
    const allowed = magnitude * (1e-5 + 4e-7 * row);
    for (let pair = 0; pair < pairs; pair++) {
      const [at, angle] = [row * pairs + pair, frequencies[pair]! * row];
      const gap = Math.abs(magnitude * Math.cos(angle) - cos[at]!) + Math.abs(magnitude * Math.sin(angle) - sin[at]!);
      if (!(gap <= allowed)) return null;
    }
  }
  return { factors: Float32Array.from(frequencies, (frequency) => 1 / frequency), magnitude };
}
