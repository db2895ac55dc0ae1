import type { HostTensor } from '../backend.ts';
import { dot } from './dense.ts';
import { asRows, float32, floatsOf, numbersOf } from './host-tensor.ts';
import type { Kernel } from './kernel.ts';
import { softmax } from './reductions.ts';

export const rotaryEmbedding: Kernel<'rotaryEmbedding'> = (
  { x, positions, cos, sin },
  { numHeads, headDim, interleaved, rotaryDim },
  { fail },
) => {
  const source = floatsOf(x);
  const [cosines, sines] = [floatsOf(cos), floatsOf(sin)];
  const half = rotaryDim / 2;
  const [pairStride, toSecond] = interleaved ? [2, 1] : [1, half];
  const result = source.slice();
  for (const [token, position] of Array.from(numbersOf(positions)).entries()) {
    if (!(position >= 0 && position < cos.dims[0]!)) fail(`Position ${position} is outside of a table for ${cos.dims[0]!} positions.`);
    for (let head = 0; head < numHeads; head++) {
      const start = (token * numHeads + head) * headDim;
      for (let pair = 0; pair < half; pair++) {
        const c = cosines[position * half + pair]!;
        const s = sines[position * half + pair]!;
        const at = start + pairStride * pair;
        const [first, second] = [source[at]!, source[at + toSecond]!];
        result[at] = first * c - second * s;
        result[at + toSecond] = first * s + second * c;
      }
    }
  }
  return [float32(x.dims, result)];
};

export const attention: Kernel<'attention'> = (inputs, { numHeads, numKvHeads, headDim, scale, window, softcap }, { fail }) => {
  const [batch, sequence] = inputs.query.dims as [number, number, number];
  const query = floatsOf(inputs.query);
  const [keyCache, valueCache] = [floatsOf(inputs.keyCache), floatsOf(inputs.valueCache)];
  const rows = inputs.keyCache.dims[2]!;
  const starts = numbersOf(inputs.queryStart);
  const lengths = numbersOf(inputs.sequenceLengths);
  const sinks = inputs.sinks === null ? null : floatsOf(inputs.sinks);
  const result = new Float32Array(query.length);
  for (let b = 0; b < batch; b++) {
    const start = starts[b]!;
    const count = Math.max(0, Math.min(sequence, lengths[b]! - start));
    if (start < 0 || start + count > rows) fail(`Sequence ${b} needs cache rows ${start} to ${start + count}; there are ${rows}.`);
    extend(inputs.key, inputs.keyCache, b, start, count);
    extend(inputs.value, inputs.valueCache, b, start, count);
    for (let i = 0; i < count; i++) {
      for (let head = 0; head < numHeads; head++) {
        const at = ((b * sequence + i) * numHeads + head) * headDim;
        const kvHead = Math.floor(head / (numHeads / numKvHeads));
        const cacheAt = (b * numKvHeads + kvHead) * rows * headDim;
        const end = start + i + 1;
        const first = Math.max(0, end - (window ?? end));
        const scores = Array.from({ length: end - first }, (_, row) => {
          const score = scale * dot(query, at, keyCache, cacheAt + (first + row) * headDim, headDim);
          return softcap === null ? score : softcap * Math.tanh(score / softcap);
        });
        const weights = softmax(Float64Array.from(sinks === null ? scores : [...scores, sinks[head]!]));
        for (let d = 0; d < headDim; d++) {
          let sum = 0;
          for (let row = first; row < end; row++) sum += weights[row - first]! * valueCache[cacheAt + row * headDim + d]!;
          result[at + d] = sum;
        }
      }
    }
  }
  return [float32(inputs.query.dims, result)];
};

/** Writes the first `count` tokens of sequence `b`, `[batch, sequence, heads * headDim]`, to its cache, `[batch, heads, rows, headDim]`, from row `start`. */
function extend(tokens: HostTensor, cache: HostTensor, b: number, start: number, count: number): void {
  const [, heads, rows, headDim] = cache.dims as [number, number, number, number];
  const [source, target] = [floatsOf(tokens), floatsOf(cache)];
  const { columns } = asRows(tokens);
  const sequence = tokens.dims[1]!;
  for (let i = 0; i < count; i++) {
    for (let head = 0; head < heads; head++) {
      const from = (b * sequence + i) * columns + head * headDim;
      target.set(source.subarray(from, from + headDim), ((b * heads + head) * rows + start + i) * headDim);
    }
  }
}
