import { z } from 'zod';
import { OpInputError } from '../errors.ts';
import { type Dim, expectDim } from '../shape.ts';
import type { Tensor } from '../tensor.ts';
import { defineOp } from './define-op.ts';

const heads = z.strictObject({
  numHeads: z.int().positive(),
  headDim: z.int().positive(),
  /** Factor of the scores before the softmax; usually 1 / sqrt(headDim). */
  scale: z.number().positive(),
});

/**
 * Rotates pairs of elements of each head by the position (RoPE; RoFormer, section 3.4.2). A pair is two neighbours where `interleaved` (the default), else
 * element i and element i + rotaryDim / 2 (GPT-NeoX's form; vLLM: `is_neox_style`). Elements of a head at or past `rotaryDim` (default: headDim) stay.
 * `x [batch, sequence, heads * headDim]`, `positions [batch, sequence]` (int64, absolute), `cos` and `sin [maxPositions, rotaryDim / 2]` -> as `x`.
 */
export const rotaryEmbedding = defineOp({
  name: 'rotaryEmbedding',
  inputs: ['x', 'positions', 'cos', 'sin'],
  floats: ['x'],
  samples: [true, false].flatMap((interleaved) =>
    [2, 4].map((rotaryDim) => {
      const table = { dims: [9, rotaryDim / 2] };
      return {
        inputs: { positions: { dims: [2, 3], dtype: 'int64', below: 9 }, cos: table, sin: table },
        attributes: { numHeads: 2, headDim: 4, interleaved, rotaryDim },
      };
    }),
  ),
  attributes: z
    .strictObject({
      numHeads: z.int().positive(),
      headDim: z.int().positive(),
      interleaved: z.boolean().default(true),
      rotaryDim: z.int().positive().multipleOf(2).exactOptional(),
    })
    .transform((given) => ({ ...given, rotaryDim: given.rotaryDim ?? given.headDim })),
  infer({ x, positions, cos, sin }, { numHeads, headDim, rotaryDim }) {
    if (rotaryDim > headDim || rotaryDim % 2 !== 0)
      throw new OpInputError('rotaryEmbedding', `${rotaryDim} elements of a head of ${headDim} cannot be rotated in pairs.`);
    expectDim("The last axis of rotaryEmbedding's input", x.dims.at(-1), numHeads * headDim);
    expectDim("rotaryEmbedding's cos", cos.dims.at(-1), rotaryDim / 2);
    expectDim("rotaryEmbedding's sin", sin.dims.at(-1), rotaryDim / 2);
    if (positions.dtype !== 'int64') throw new OpInputError('rotaryEmbedding', `The positions are ${positions.dtype}, expected int64.`);
    return { dtype: x.dtype, dims: x.dims };
  },
});

/** Of `attention`: five tokens at the start of their sequence. */
const firstTokens = {
  query: { dims: [1, 5, 32] },
  ...Object.fromEntries(['key', 'value'].map((name) => [name, { dims: [1, 5, 16] }])),
  ...Object.fromEntries(['keyCache', 'valueCache'].map((name) => [name, { dims: [1, 2, 8, 8] }])),
  queryStart: { dims: [1], dtype: 'int32', value: 0 },
  sequenceLengths: { dims: [1], dtype: 'int32', value: 5 },
  totalLength: { dims: [], dtype: 'int32', value: 5 },
} as const;
const sampleHeads = { numHeads: 4, numKvHeads: 2, headDim: 8, scale: 0.5 };

/**
 * Causal attention over a KV cache, which it extends in place.
 * `query [batch, sequence, numHeads * headDim]`, `key` and `value [batch, sequence, numKvHeads * headDim]`;
 * `keyCache` and `valueCache [batch, numKvHeads, rows, headDim]`; `queryStart [batch]`: the cache row of each sequence's first query;
 * `sequenceLengths [batch]`: rows in use after this step; `totalLength []`: the largest of them (all int32) -> `[batch, sequence, numHeads * headDim]`.
 * Query i of a sequence sees rows 0 to queryStart + i, of these the last `window` where there is one. Rows of a padded query, at or past `sequenceLengths`,
 * have no meaning. A `softcap` replaces each score by softcap * tanh(score / softcap) before the softmax (Gemma 2). `sinks [numHeads]` joins one logit
 * for each head to the softmax, which takes a share and gives no value (gpt-oss; Xiao et al. 2023).
 */
export const attention = defineOp({
  name: 'attention',
  inputs: ['query', 'key', 'value', 'keyCache', 'valueCache', 'queryStart', 'sequenceLengths', 'totalLength'],
  floats: ['query', 'key', 'value'],
  optional: ['sinks'],
  inPlaceOf: ['keyCache', 'valueCache'],
  samples: [
    { inputs: firstTokens, attributes: sampleHeads },
    { inputs: firstTokens, attributes: { ...sampleHeads, window: 3 } },
    { inputs: { ...firstTokens, sinks: { dims: [4], isWeight: true } }, attributes: { ...sampleHeads, window: 2, softcap: 1.5 } },
  ],
  attributes: heads.extend({
    numKvHeads: z.int().positive(),
    window: z.int().positive().nullable().default(null),
    softcap: z.number().positive().nullable().default(null),
  }),
  infer({ query, key, value, keyCache, valueCache, queryStart, sequenceLengths, totalLength, sinks }, { numHeads, numKvHeads, headDim }) {
    if (numHeads % numKvHeads !== 0) throw new OpInputError('attention', `${numHeads} heads cannot share ${numKvHeads} key-value heads.`);
    for (const [name, lengths] of Object.entries({ queryStart, sequenceLengths, totalLength }))
      if (lengths.dtype !== 'int32') throw new OpInputError('attention', `"${name}" is ${lengths.dtype}, expected int32.`);
    expectDim("attention's query", query.dims.at(-1), numHeads * headDim);
    expectDim("attention's key", key.dims.at(-1), numKvHeads * headDim);
    expectDim("attention's value", value.dims.at(-1), numKvHeads * headDim);
    for (const cache of [keyCache, valueCache]) {
      expectDim("The batch of attention's cache", cache.dims[0], query.dims[0]);
      expectDim("The heads of attention's cache", cache.dims[1], numKvHeads);
      expectDim("The last axis of attention's cache", cache.dims[3], headDim);
    }
    expectDim("attention's queryStart", queryStart.dims[0], query.dims[0]);
    expectDim("attention's sequenceLengths", sequenceLengths.dims[0], query.dims[0]);
    if (sinks !== null) expectDim("attention's sinks", sinks.dims[0], numHeads);
    return { dtype: query.dtype, dims: query.dims };
  },
});

/**
 * Attention of every token to every token of its sequence, without a mask and without a cache, as an image's patches have it.
 * `query`, `key` and `value [batch, sequence, numHeads * headDim]` -> as `query`.
 */
export const selfAttention = defineOp({
  name: 'selfAttention',
  inputs: ['query', 'key', 'value'],
  floats: ['query', 'key', 'value'],
  samples: [{ attributes: { numHeads: 2, headDim: 4, scale: 0.5 } }],
  decompose({ query, key, value }, { numHeads, headDim, scale }) {
    const [batch, sequence] = query.dims as [Dim, Dim, Dim];
    const byHead = (x: Tensor): Tensor => x.reshape(batch, sequence, numHeads, headDim).permute(0, 2, 1, 3); // [batch, heads, sequence, headDim]
    const scores = byHead(query)
      .matmul(byHead(key).permute(0, 1, 3, 2))
      .mul(scale); // [batch, heads, sequence, sequence]
    const mixed = scores.softmax().matmul(byHead(value)).permute(0, 2, 1, 3);
    return mixed.reshape(batch, sequence, numHeads * headDim);
  },
  attributes: heads,
  infer({ query, key, value }, { numHeads, headDim }) {
    for (const [name, { dims }] of Object.entries({ query, key, value })) {
      if (dims.length !== 3) throw new OpInputError('selfAttention', `"${name}" has rank ${dims.length}, expected 3.`);
      expectDim(`The batch of selfAttention's ${name}`, dims[0], query.dims[0]);
      expectDim(`The sequence of selfAttention's ${name}`, dims[1], query.dims[1]);
      expectDim(`selfAttention's ${name}`, dims[2], numHeads * headDim);
    }
    return { dtype: query.dtype, dims: query.dims };
  },
});
