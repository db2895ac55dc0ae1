import type { Tensor } from '@graft/ggml';
import type { NodeOf, ops, ProgramStep, Value } from '@graft/graph';
import type { Cache } from './caches.ts';
import type { LoweringContext } from './lowering-context.ts';

/** Rows of a cache are read in multiples of this, so that few graphs serve all lengths. */
const rowStep = 256;
/** Minus infinity in float16. */
const hidden = 0xfc00;

/** Rows of the caches that a step reads, when its longest sequence has `used` of them. */
export const rowsRead = (used: number, rows: number): number => Math.min(rows, Math.ceil(used / rowStep) * rowStep);

/** Writes keys and values to their cache, then attends to the rows in use. */
export function lowerAttention({ inputs, attributes }: NodeOf<typeof ops.attention>, c: LoweringContext): Tensor {
  const { builder, step } = c;
  const { headDim, scale, window, softcap } = attributes;
  const [batch, sequence] = c.dims(inputs.query) as [number, number];
  const starts = c.inputName(inputs.queryStart, "The attention's queryStart");
  const [keys, values] = [c.cache(inputs.keyCache), c.cache(inputs.valueCache)];
  const read = rowsRead(Math.max(...startsOf(step, starts)) + sequence, keys.rows);
  const group = { starts, batch, sequence };
  const places = c.once(`places ${starts} ${keys.rows} ${batch} ${sequence}`, () =>
    c.source('I32', [batch * sequence], (now) => placesOf(now, group, keys.rows), keys.tensor.ne[1]),
  );
  const mask = c.once(`mask ${starts} ${read} ${window} ${batch} ${sequence}`, () =>
    c.source('F16', [read, sequence, 1, batch], (now) => maskOf(now, group, read, window)),
  );
  const extended = (cache: Cache, rows: Value): Tensor => {
    const written = builder.setRows(cache.tensor, c.rows(rows), places);
    const row = cache.width * cache.elementBytes;
    const slot = row * cache.rows;
    return builder.view(
      written,
      [headDim, read, cache.width / headDim, batch],
      [cache.elementBytes, row, headDim * cache.elementBytes, slot],
      step.firstSlot * slot,
    );
  };
  const [key, value] = [extended(keys, inputs.key), extended(values, inputs.value)];
  const groups = c.grouped(inputs.query, headDim); // [headDim, heads, batch * sequence]
  const [, head, token] = groups.nb;
  const query = builder.view(groups, [headDim, sequence, groups.ne[1], batch], [4, token, head, token * sequence]);
  const sinks = inputs.sinks === null ? null : c.packed(c.tensor(inputs.sinks));
  return builder.attention(query, key, value, { scale, mask, softcap, sinks });
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

/** Query i of a sequence sees rows up to its own one, and of these the last `window`. */
function maskOf(step: ProgramStep, { starts, batch, sequence }: Group, rows: number, window: number | null): Uint16Array {
  const first = startsOf(step, starts);
  const mask = new Uint16Array(batch * sequence * rows).fill(hidden);
  for (let b = 0; b < batch; b++)
    for (let i = 0; i < sequence; i++) {
      const end = first[b]! + i + 1;
      const at = (b * sequence + i) * rows;
      mask.fill(0, at + Math.max(0, end - (window ?? end)), at + end);
    }
  return mask;
}
