import { readFileSync } from 'node:fs';
import { Llama4ForCausalLM, llama4, upstreamContext } from '@graft/core-model';
import { describe, expect, test } from 'vitest';
import { caseFolder, promptOf, sharedBy } from './engine.fixture.ts';
import { KvCachePlan } from './kv-cache.ts';
import { SamplingParams } from './sampling-params.ts';
import { type Batch, Scheduler } from './scheduler.ts';
import { FirstComeFirstServed, type SchedulerPolicy } from './scheduler-policy.ts';
import { Sequence } from './sequence.ts';

function planOf(name: string, maxModelLength: number): KvCachePlan {
  const config = llama4.parseConfig(JSON.parse(readFileSync(`${caseFolder(name)}/config.json`, 'utf8')));
  return new KvCachePlan(new Llama4ForCausalLM(upstreamContext('Llama4ForCausalLM', config, { maxModelLength })), maxModelLength);
}

const sequenceOf = (length: number): Sequence =>
  new Sequence({
    promptIds: promptOf(length),
    images: null,
    sampling: SamplingParams.parse({ temperature: 0 }),
    sink: { push: () => undefined, fail: () => undefined },
    shared: sharedBy(),
  });

const result = { vocabSize: 1, logits: new Float32Array(1), auxHiddenStates: [] };

/** Does to the sequences what a run does. */
function computed(batches: readonly Batch[]): void {
  for (const { sequences, count } of batches) {
    for (const sequence of sequences) if (sequence.advance(count, result) !== null) sequence.emit({ tokenId: 7, logprob: null, top: [] });
  }
}

/** Of a turn with one: the sequence whose prompt is computed, and how much of it. */
function prefillOf(batches: readonly Batch[]): [Sequence, number] | null {
  const [first] = batches;
  return first === undefined || first.sequences[0]!.decoding ? null : [first.sequences[0]!, first.count];
}

function schedulerOf({
  maxSequences = 4,
  prefillTokens = 8,
  name = 'dense-tiny',
  policy = new FirstComeFirstServed(),
}: SchedulerTest = {}): Scheduler {
  return new Scheduler({ maxSequences, prefillTokens, kvCache: planOf(name, 200), policy });
}

interface SchedulerTest {
  maxSequences?: number;
  prefillTokens?: number;
  name?: string;
  policy?: SchedulerPolicy;
}

/** The shortest prompt first, in pieces of 2 tokens while others decode. */
const shortestFirst: SchedulerPolicy = {
  next: (waiting) => waiting.reduce((shortest, one) => (one.promptLength < shortest.promptLength ? one : shortest)),
  prefillTokens: ({ limit, decoding }) => (decoding > 0 ? 2 : limit),
};

const slotsOf = (batches: readonly Batch[]) => batches.map(({ firstSlot, sequences }) => sequences.map((_, i) => firstSlot + i));

describe('the scheduler', () => {
  test('a policy chooses who gets the free slot, and how long the piece of a prompt is', () => {
    const scheduler = schedulerOf({ maxSequences: 2, policy: shortestFirst });
    const [long, middle, short] = [sequenceOf(9), sequenceOf(5), sequenceOf(3)];
    for (const sequence of [long, middle, short]) scheduler.add(sequence);
    const pieces = Array.from({ length: 4 }, () => {
      const step = scheduler.schedule();
      const prefill = prefillOf(step);
      computed(step);
      return prefill;
    });
    expect(pieces).toEqual([
      [short, 3],
      [middle, 2],
      [middle, 2],
      [middle, 1],
    ]);
    expect(long.slot).toBeNull();
  });

  test.each([
    ['a sequence that does not wait', { ...shortestFirst, next: () => sequenceOf(1) as never }],
    [
      'nothing, of a list that it empties',
      { ...shortestFirst, next: (waiting: unknown) => (waiting as never[]).splice(0).at(-2) as never },
    ],
    ['a promise that is rejected', { ...shortestFirst, next: () => Promise.reject(new Error('late')) as never }],
    ['an error', { ...shortestFirst, prefillTokens: () => JSON.parse('{') as never }],
    ['no token', { ...shortestFirst, prefillTokens: () => 0 }],
  ])('a policy that gives %s is refused', (_, policy) => {
    const scheduler = schedulerOf({ policy });
    scheduler.add(sequenceOf(9));
    expect(() => scheduler.schedule()).toThrow(expect.objectContaining({ code: 'GRAFT_SCHEDULER_POLICY', where: 'Object' }));
    expect(scheduler.counts.waiting + scheduler.counts.running).toBe(1);
  });

  test('prefills prompts in the order of arrival, one piece per step', () => {
    const scheduler = schedulerOf();
    const [a, b] = [sequenceOf(20), sequenceOf(3)];
    scheduler.add(a);
    scheduler.add(b);
    const pieces: [Sequence, number][] = [];
    for (let i = 0; i < 4; i++) {
      const step = scheduler.schedule();
      pieces.push(prefillOf(step)!);
      computed(step);
    }
    expect(pieces).toEqual([
      [a, 8],
      [a, 8],
      [a, 4],
      [b, 3],
    ]);
    expect(prefillOf(scheduler.schedule())).toBeNull();
  });

  test('decodes every sequence in every step, however long the prompt in prefill is', () => {
    const scheduler = schedulerOf();
    const [a, b, long] = [sequenceOf(2), sequenceOf(2), sequenceOf(80)];
    for (const sequence of [a, b, long]) scheduler.add(sequence);
    computed(scheduler.schedule());
    computed(scheduler.schedule());
    for (let i = 0; i < 10; i++) {
      const step = scheduler.schedule();
      expect(step).toEqual([
        { firstSlot: 2, sequences: [long], count: 8 },
        { firstSlot: 0, sequences: [a, b], count: 1 },
      ]);
      computed(step);
    }
    expect(slotsOf(scheduler.schedule())).toEqual([[0, 1, 2]]);
  });

  test('gives the lowest free slot, and groups contiguous slots', () => {
    const scheduler = schedulerOf();
    const first = [sequenceOf(1), sequenceOf(1), sequenceOf(1), sequenceOf(1)];
    for (const sequence of first) scheduler.add(sequence);
    for (let i = 0; i < 4; i++) computed(scheduler.schedule());
    expect(slotsOf(scheduler.schedule())).toEqual([[0, 1, 2, 3]]);
    scheduler.remove(first[1]!);
    expect(slotsOf(scheduler.schedule())).toEqual([[0], [2, 3]]);
    scheduler.remove(first[0]!);
    const late = sequenceOf(1);
    scheduler.add(late);
    computed(scheduler.schedule());
    expect(late.slot).toBe(0);
    expect(slotsOf(scheduler.schedule())).toEqual([[0], [2, 3]]);
  });

  test('lets sequences without a slot wait, and drops ended ones', () => {
    const scheduler = schedulerOf({ maxSequences: 2 });
    const [a, b, c] = [sequenceOf(1), sequenceOf(1), sequenceOf(1)];
    for (const sequence of [a, b, c]) scheduler.add(sequence);
    computed(scheduler.schedule());
    expect(scheduler.counts).toEqual({ running: 2, waiting: 1, freeSlots: 0 });
    a.cancel();
    const step = scheduler.schedule();
    expect(scheduler.counts).toEqual({ running: 2, waiting: 0, freeSlots: 0 });
    expect(prefillOf(step)![0]).toBe(b);
    expect(c.slot).toBe(0);
    for (const sequence of [a, b, c]) scheduler.remove(sequence);
    expect(scheduler.counts).toEqual({ running: 0, waiting: 0, freeSlots: 2 });
    expect(scheduler.hasWork).toBe(false);
  });

  test('a slot that is freed during a step is not reused before the next step', () => {
    const scheduler = schedulerOf({ maxSequences: 1 });
    const [a, b] = [sequenceOf(1), sequenceOf(1)];
    scheduler.add(a);
    scheduler.add(b);
    const step = scheduler.schedule();
    scheduler.remove(a);
    expect([prefillOf(step)![0], b.slot]).toEqual([a, null]);
    scheduler.schedule();
    expect(b.slot).toBe(0);
  });

  test('no piece of a prompt straddles the boundary of an attention chunk', () => {
    const scheduler = schedulerOf({ prefillTokens: 7, name: 'scout-tiny' });
    const chunk = planOf('scout-tiny', 200).groups.find(({ chunkSize }) => chunkSize !== null)!.chunkSize!;
    const sequence = sequenceOf(3 * chunk + 5);
    scheduler.add(sequence);
    while (!sequence.decoding) {
      const step = scheduler.schedule();
      const [{ count }] = step as [Batch];
      const [from, to] = [sequence.computed, sequence.computed + count];
      expect(Math.floor(from / chunk)).toBe(Math.floor((to - 1) / chunk));
      expect(count).toBe(Math.min(7, chunk - (from % chunk), sequence.promptLength - from));
      computed(step);
    }
  });
});

describe('the plan of the KV cache', () => {
  test('has one group for each length and meaning of the rows', () => {
    expect(planOf('scout-tiny', 100).groups).toEqual([
      { name: 'chunked-local-16', chunkSize: 16, keptRows: 0, rows: 16 },
      { name: 'full', chunkSize: null, keptRows: 0, rows: 100 },
    ]);
    expect(planOf('scout-tiny', 10).groups.map(({ rows }) => rows)).toEqual([10, 10]);
  });

  test('binds the caches of a group to its rows, and its metadata to one input', () => {
    const plan = planOf('scout-tiny', 100);
    const kinds = ['kvCache.key', 'queryStart', 'totalLength'];
    const bind = (layer: number) => kinds.map((kind) => plan.bindRuntimeInput(`model.layers.${layer}.self_attn.attn.slots`, kind));
    expect(bind(0)).toEqual([
      { kind: 'cache', rows: 16 },
      { kind: 'input', name: 'chunked-local-16.queryStart' },
      { kind: 'input', name: 'chunked-local-16.totalLength' },
    ]);
    expect(bind(3)).toEqual([
      { kind: 'cache', rows: 100 },
      { kind: 'input', name: 'full.queryStart' },
      { kind: 'input', name: 'full.totalLength' },
    ]);
  });

  test('has room up to the next boundary of a chunk, or unlimited room without chunks', () => {
    const plan = planOf('scout-tiny', 100);
    expect([0, 1, 15, 16, 40].map((slot) => plan.roomAfter(slot))).toEqual([16, 15, 1, 16, 8]);
    const full = planOf('nochunk-tiny', 100);
    expect(full.groups).toEqual([{ name: 'full', chunkSize: null, keptRows: 0, rows: 100 }]);
    expect(full.roomAfter(17)).toBe(Number.POSITIVE_INFINITY);
  });
});
