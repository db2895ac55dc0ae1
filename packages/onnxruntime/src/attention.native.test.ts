import { type MemoryRegion, PinnedBuffer } from '@graft/system';
import { afterAll, expect, test } from 'vitest';
import { Environment, GraphBuilder, int, OrtValue, type Session } from './index.ts';

// com.microsoft.GroupQueryAttention with its KV cache updated in place, against attention written out naively.
const HEADS = 4;
const KV_HEADS = 2;
const DIM = 8;
const ROWS = 48; // rows of a slot's cache
const SLOT_BYTES = KV_HEADS * ROWS * DIM * 4;

const environment = Environment.create();
const session = await environment.createSession(attentionModel(), { intraOpThreads: 1 });
afterAll(() => {
  session[Symbol.dispose]();
  environment[Symbol.dispose]();
});

function attentionModel(): Uint8Array {
  const graph = new GraphBuilder('attention');
  const cache = ['batch', KV_HEADS, 'rows', DIM];
  const inputs = [
    graph.input('query', 'float32', ['batch', 'tokens', HEADS * DIM]),
    graph.input('key', 'float32', ['batch', 'tokens', KV_HEADS * DIM]),
    graph.input('value', 'float32', ['batch', 'tokens', KV_HEADS * DIM]),
    graph.input('past_key', 'float32', cache),
    graph.input('past_value', 'float32', cache),
    graph.input('seqlens_k', 'int32', ['batch']),
    graph.input('total_length', 'int32', []),
  ];
  graph.node('GroupQueryAttention', inputs, {
    domain: 'com.microsoft',
    attributes: { num_heads: int(HEADS), kv_num_heads: int(KV_HEADS) },
    outputs: ['output', 'present_key', 'present_value'],
  });
  graph.output('output', 'float32', ['batch', 'tokens', HEADS * DIM]);
  graph.output('present_key', 'float32', cache);
  graph.output('present_value', 'float32', cache);
  return graph.toBytes();
}

interface Tokens {
  query: Float32Array;
  key: Float32Array;
  value: Float32Array;
}

function tokens(count: number, seed: number): Tokens {
  const random = (length: number, salt: number) =>
    Float32Array.from({ length }, (_, index) => Math.sin(index * 12.9898 + seed * 78.233 + salt * 37.719) * 2);
  return { query: random(count * HEADS * DIM, 1), key: random(count * KV_HEADS * DIM, 2), value: random(count * KV_HEADS * DIM, 3) };
}

/** Causal attention over all tokens of one sequence, in double precision. `[tokens, HEADS * DIM]` */
function naiveAttention({ query, key, value }: Tokens): Float64Array {
  const count = query.length / (HEADS * DIM);
  const output = new Float64Array(query.length);
  for (let token = 0; token < count; token += 1) {
    for (let head = 0; head < HEADS; head += 1) {
      const kvHead = Math.floor(head / (HEADS / KV_HEADS));
      const at = (array: Float32Array, position: number, dim: number) => array[(position * KV_HEADS + kvHead) * DIM + dim] as number;
      const q = query.subarray((token * HEADS + head) * DIM, (token * HEADS + head + 1) * DIM);
      const scores = Array.from(
        { length: token + 1 },
        (_, position) => q.reduce((sum, x, dim) => sum + x * at(key, position, dim), 0) / Math.sqrt(DIM),
      );
      const exps = scores.map((score) => Math.exp(score - Math.max(...scores)));
      const total = exps.reduce((a, b) => a + b);
      for (let dim = 0; dim < DIM; dim += 1) {
        output[(token * HEADS + head) * DIM + dim] = exps.reduce(
          (sum, weight, position) => sum + (weight / total) * at(value, position, dim),
          0,
        );
      }
    }
  }
  return output;
}

/** Runs sequences in adjacent slots: one piece of equal length for each sequence, which has `past` tokens already. */
async function step(
  model: Session,
  keys: MemoryRegion,
  values: MemoryRegion,
  slot: number,
  pieces: Tokens[],
  past: number[],
): Promise<Float32Array> {
  const batch = pieces.length;
  const count = pieces[0]!.query.length / (HEADS * DIM);
  const pack = (part: keyof Tokens, width: number) =>
    OrtValue.from('float32', [batch, count, width], Float32Array.from(pieces.flatMap((piece) => [...piece[part]])));
  const cacheDims = [batch, KV_HEADS, ROWS, DIM];
  using query = pack('query', HEADS * DIM);
  using key = pack('key', KV_HEADS * DIM);
  using value = pack('value', KV_HEADS * DIM);
  using keyCache = OrtValue.over(keys, 'float32', cacheDims, slot * SLOT_BYTES);
  using valueCache = OrtValue.over(values, 'float32', cacheDims, slot * SLOT_BYTES);
  using lengths = OrtValue.from(
    'int32',
    [batch],
    past.map((length) => length + count - 1),
  );
  using total = OrtValue.from('int32', [], [Math.max(...past) + count]);
  using output = OrtValue.allocate('float32', [batch, count, HEADS * DIM]);
  using binding = model.bind({
    inputs: { query, key, value, past_key: keyCache, past_value: valueCache, seqlens_k: lengths, total_length: total },
    outputs: { output, present_key: keyCache, present_value: valueCache },
  });
  await model.run(binding);
  return output.view.slice();
}

function piece(all: Tokens, from: number, to: number): Tokens {
  return {
    query: all.query.slice(from * HEADS * DIM, to * HEADS * DIM),
    key: all.key.slice(from * KV_HEADS * DIM, to * KV_HEADS * DIM),
    value: all.value.slice(from * KV_HEADS * DIM, to * KV_HEADS * DIM),
  };
}

/** The largest difference from the naive result's rows. */
function difference(actual: Float32Array, expected: Float64Array, fromToken: number): number {
  return actual.reduce((largest, x, index) => Math.max(largest, Math.abs(x - (expected[fromToken * HEADS * DIM + index] as number))), 0);
}

test('past and present bound to the same memory: a prompt in pieces, then token by token, equals attention over all of it', async () => {
  using keys = PinnedBuffer.allocate(SLOT_BYTES);
  using values = PinnedBuffer.allocate(SLOT_BYTES);
  keys.elements('float32').fill(Number.NaN); // rows that were not written must not be read
  values.elements('float32').fill(Number.NaN);
  const all = tokens(40, 1);
  const expected = naiveAttention(all);
  let past = 0;
  for (const count of [10, 7, 1, 1, 5, 15, 1]) {
    const output = await step(session, keys, values, 0, [piece(all, past, past + count)], [past]);
    expect(difference(output, expected, past)).toBeLessThan(1e-5);
    past += count;
  }
  expect(keys.elements('float32', 0, 40 * DIM)).toEqual(firstHead(all.key, 40)); // rows of head 0, where they belong
  expect(Number.isNaN(keys.elements('float32')[40 * DIM])).toBe(true); // and nothing behind them
});

test('slots of one buffer are addressed by offset: sequences of different lengths decode together, the others stay as they are', async () => {
  using keys = PinnedBuffer.allocate(4 * SLOT_BYTES);
  using values = PinnedBuffer.allocate(4 * SLOT_BYTES);
  const sequences = [tokens(12, 2), tokens(12, 3), tokens(12, 4), tokens(12, 5)];
  const lengths = [5, 9, 3, 11];
  for (const [slot, all] of sequences.entries()) {
    const output = await step(session, keys, values, slot, [piece(all, 0, lengths[slot]!)], [0]);
    expect(difference(output, naiveAttention(all), 0)).toBeLessThan(1e-5);
  }
  const before = keys.bytes(0, SLOT_BYTES).slice();
  const rows = HEADS * DIM;
  for (const slots of [[1, 2], [3]]) {
    const pieces = slots.map((slot) => piece(sequences[slot]!, lengths[slot]!, lengths[slot]! + 1));
    const past = slots.map((slot) => lengths[slot]!);
    const output = await step(session, keys, values, slots[0]!, pieces, past);
    slots.forEach((slot, row) => {
      expect(difference(output.slice(row * rows, (row + 1) * rows), naiveAttention(sequences[slot]!), lengths[slot]!)).toBeLessThan(1e-5);
    });
  }
  expect(keys.bytes(0, SLOT_BYTES)).toEqual(before);
});

/** Head 0 of `key [tokens, KV_HEADS * DIM]`, as the cache holds it: `[tokens, DIM]`. */
function firstHead(key: Float32Array, count: number): Float32Array {
  return Float32Array.from({ length: count * DIM }, (_, index) => key[Math.floor(index / DIM) * KV_HEADS * DIM + (index % DIM)] as number);
}
