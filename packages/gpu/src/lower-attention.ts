import { type AttentionOptions, type Four, GgmlUnsupportedError, type GraphBuilder, type Tensor } from '@graft/ggml';
import type { NodeOf, ops, ProgramStep, Value } from '@graft/graph';
import type { Cache } from './caches.ts';
import type { LoweringContext } from './lowering-context.ts';

/** ggml's flash attention on a CPU is slower than products with fewer queries than this. */
const fewQueries = 64;
/** Minus infinity in float16. */
const hidden = 0xfc00;

/** ggml's kernels of several rows take whole vectors, of no more elements than this. */
const vector = 32;

/**
 * Whether a query's result is bit for bit the same alone and among several, which needs kernels of several rows in both cases: products, in which the heads that
 * share keys are several rows. ggml's flash attention divides the cache among threads for one query alone.
 * @param values the attention's cache of values
 */
export function queriesAgree({ inputs: { query } }: NodeOf<typeof ops.attention>, values: Cache | undefined): boolean {
  if (values === undefined || values.turned === null) return false;
  return query.dims.at(-1)!.evaluate(() => 0) > values.width && values.rows % vector === 0;
}

/** Writes keys and values to their cache, then attends to the rows in use. */
export function lowerAttention({ inputs, attributes }: NodeOf<typeof ops.attention>, c: LoweringContext): Tensor {
  const { builder, step } = c;
  const { headDim, scale, window, softcap } = attributes;
  const [batch, sequence] = c.dims(inputs.query) as [number, number];
  const starts = c.inputName(inputs.queryStart, "The attention's queryStart");
  const [keys, values] = [c.cache(inputs.keyCache), c.cache(inputs.valueCache)];
  const read = c.rowsRead(Math.max(...startsOf(step, starts)) + sequence, keys.rows);
  const group = { starts, batch, sequence };
  const places = c.once(`places ${starts} ${keys.rows} ${batch} ${sequence}`, () =>
    c.source('I32', [batch * sequence], (now) => placesOf(now, group, keys.rows), keys.tensor.ne[1]),
  );
  const maskFor = (repeats: number): Tensor =>
    c.once(`mask ${starts} ${read} ${window} ${batch} ${sequence} ${repeats}`, () =>
      c.source('F16', [read, sequence * repeats, 1, batch], (now) => maskOf(now, group, { read, window, repeats })),
    );
  const extended = (cache: Cache, rows: Value): Tensor => {
    const written = builder.setRows(cache.tensor, c.rows(rows), places);
    const row = cache.width * cache.elementBytes;
    const slot = row * cache.rows;
    const sizes = [headDim, read, cache.width / headDim, batch];
    return c.window(written, sizes, [cache.elementBytes, row, headDim * cache.elementBytes, slot], ({ firstSlot }) => firstSlot * slot);
  };
  const [key, value] = [extended(keys, inputs.key), extended(values, inputs.value)];
  const turned = values.turned === null ? null : turnedValues(values, values.turned, { value: inputs.value, group, headDim, read }, c);
  const groups = c.grouped(inputs.query, headDim); // [headDim, heads, batch * sequence]
  const [, head, token] = groups.nb;
  const heads = groups.ne[1];
  if (turned === null || sequence >= fewQueries) {
    const query = builder.view(groups, [headDim, sequence, heads, batch], [4, token, head, token * sequence]);
    const sinks = inputs.sinks === null ? null : c.packed(c.tensor(inputs.sinks));
    return attend(builder, [query, key, value], { scale, mask: maskFor(1), softcap, sinks });
  }
  // With one query, the heads that share keys are the rows of one product.
  const together = sequence === 1 ? heads / key.ne[2] : 1;
  const query =
    sequence === 1
      ? builder.view(groups, [headDim, together, key.ne[2], batch], [4, head, head * together, token])
      : builder.view(groups, [headDim, sequence, heads, batch], [4, token, head, token * sequence]);
  const weights = builder.maskedSoftmax(builder.matmul(key, query), maskFor(together), scale);
  const results = builder.matmul(turned, weights);
  return sequence === 1 ? results : builder.contiguous(builder.permute(results, [0, 2, 1, 3]));
}

/** Writes values to their turned cache, element by element. [read, headDim, heads, batch]. */
function turnedValues(
  { width, rows, elementBytes }: Cache,
  cache: Tensor,
  { value, group, headDim, read }: { value: Value; group: Group; headDim: number; read: number },
  c: LoweringContext,
): Tensor {
  const { starts, batch, sequence } = group;
  const { builder } = c;
  const count = batch * sequence * width;
  const places = c.once(`turned ${starts} ${rows} ${width} ${batch} ${sequence}`, () =>
    c.source('I32', [count], (now) => turnedPlacesOf(now, group, rows, width), cache.elements),
  );
  const written = builder.setRows(builder.reshape(cache, [1, cache.elements]), c.shaped(value, count, 1), places);
  const slot = rows * width * elementBytes;
  const strides: Four = [elementBytes, rows * elementBytes, headDim * rows * elementBytes, slot];
  return c.window(written, [read, headDim, width / headDim, batch], strides, ({ firstSlot }) => firstSlot * slot);
}

/** Attention as one computation, or as products and a softmax on a device that lacks it for these shapes, such as heads whose width is no multiple of 8. */
export function attend(builder: GraphBuilder, [query, key, value]: readonly [Tensor, Tensor, Tensor], options: AttentionOptions): Tensor {
  try {
    return builder.attention(query, key, value, options);
  } catch (error) {
    const { scale, mask, softcap, sinks } = options;
    if (!(error instanceof GgmlUnsupportedError) || (sinks ?? null) !== null) throw error;
    let scores = builder.scale(builder.matmul(key, query), scale); // [rows, queries, heads, batch]
    if ((softcap ?? null) !== null) scores = builder.scale(builder.unary('tanh', builder.scale(scores, 1 / softcap!)), softcap!);
    if ((mask ?? null) !== null) scores = builder.binary('add', scores, builder.cast(mask!, 'F32'));
    const columns = builder.contiguous(builder.permute(value, [1, 0, 2, 3])); // [rows, headDim, kvHeads, batch]
    const mixed = builder.matmul(columns, builder.unary('softmax', scores));
    return builder.contiguous(builder.permute(mixed, [0, 2, 1, 3]));
  }
}

interface Group {
  readonly starts: string;
  readonly batch: number;
  readonly sequence: number;
}

export const startsOf = ({ inputs }: ProgramStep, name: string): Int32Array => inputs[name]!.data as Int32Array;

/** The row of the caches that each token is written to, over all slots. */
function placesOf(step: ProgramStep, { starts, batch, sequence }: Group, rows: number): Int32Array {
  const first = startsOf(step, starts);
  const places = new Int32Array(batch * sequence);
  for (let b = 0; b < batch; b++) for (let i = 0; i < sequence; i++) places[b * sequence + i] = (step.firstSlot + b) * rows + first[b]! + i;
  return places;
}

/** Where in a turned cache each element of each token is written. */
function turnedPlacesOf(step: ProgramStep, group: Group, rows: number, width: number): Int32Array {
  const rowsOfTokens = placesOf(step, group, rows);
  const places = new Int32Array(rowsOfTokens.length * width);
  for (const [i, row] of rowsOfTokens.entries()) {
    const slot = Math.floor(row / rows);
    let place = slot * width * rows + (row % rows);
    for (let at = i * width; at < (i + 1) * width; at++, place += rows) places[at] = place;
  }
  return places;
}

/** Query i of a sequence sees rows up to its own one, and of these the last `window`. Each query's rows are there `repeats` times. */
function maskOf(
  step: ProgramStep,
  { starts, batch, sequence }: Group,
  { read, window, repeats }: { read: number; window: number | null; repeats: number },
): Uint16Array {
  const first = startsOf(step, starts);
  const mask = new Uint16Array(batch * sequence * repeats * read).fill(hidden);
  let at = 0;
  for (let b = 0; b < batch; b++)
    for (let i = 0; i < sequence; i++)
      for (let repeat = 0; repeat < repeats; repeat++, at += read) {
        const end = first[b]! + i + 1;
        mask.fill(0, at + Math.max(0, end - (window ?? end)), at + end);
      }
  return mask;
}
