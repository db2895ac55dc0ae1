import { Attention, type AttentionOptions, RotaryEmbedding } from '@graft/core-model';
import { type CompileOptions, type HostTensor, Module, memoryStorage, ops, ProgramInputError, type SymbolicTensor } from '@graft/graph';
import { expect, test } from 'vitest';
import { both, expectSame, float32, holder, int32, int64, specOf, unfused } from '../../../tests/compare.fixture.ts';

const heads = { numHeads: 4, numKvHeads: 2, headDim: 16, scale: 0.25 };

const bindRuntimeInput: CompileOptions['bindRuntimeInput'] = (_path, kind) =>
  kind.startsWith('kvCache') ? { kind: 'cache', rows: 24 } : { kind: 'input', name: kind };
const options: CompileOptions = { kvSlots: 4, threads: 1, bindRuntimeInput };

class Layer extends Module {
  readonly attn: Attention;
  readonly rotary: RotaryEmbedding;
  readonly kvWidth: number;

  constructor(headDim = 16, more: Partial<AttentionOptions> & { rotaryDim?: number } = {}) {
    super();
    const { rotaryDim = headDim, ...options } = more;
    this.attn = new Attention({ ...heads, headDim, ...options });
    this.attn.sinks?.setStorage(memoryStorage('float32', [4], { data: Float32Array.of(-1, 0, 0.5, 2) }));
    this.rotary = new RotaryEmbedding(headDim, 64, { type: 'default', theta: 10000 }, { interleaved: true, rotaryDim });
    this.kvWidth = 2 * headDim;
  }

  /** Split, rotation and attention with nothing between them: what the backend fuses. */
  rotated(qkv: SymbolicTensor, positions: SymbolicTensor): SymbolicTensor {
    const [query, key, value] = this.split(qkv);
    return this.attn.forward(...this.rotary.forward(positions, query, key), value);
  }

  /** As `rotated`, in the form of GPT-NeoX, with one rotation in the other form where `mixed`. */
  rotatedHalves(qkv: SymbolicTensor, positions: SymbolicTensor, mixed = false): SymbolicTensor {
    const [query, key, value] = this.split(qkv);
    const rotate = (x: SymbolicTensor, numHeads: number, interleaved: boolean): SymbolicTensor => {
      const { cosCache: cos, sinCache: sin, headDim, rotaryDim } = this.rotary;
      return ops.rotaryEmbedding({ x, positions, cos, sin }, { numHeads, headDim, interleaved, rotaryDim });
    };
    return this.attn.forward(rotate(query, 4, false), rotate(key, 2, mixed), value);
  }

  rotatedMixed(qkv: SymbolicTensor, positions: SymbolicTensor): SymbolicTensor {
    return this.rotatedHalves(qkv, positions, true);
  }

  /** Something stands between the rotation and the attention. */
  scaled(qkv: SymbolicTensor, positions: SymbolicTensor): SymbolicTensor {
    const [query, key, value] = this.split(qkv);
    const [q, k] = this.rotary.forward(positions, query, key);
    return this.attn.forward(ops.mulScalar({ x: q }, { value: 0.5 }), k, value);
  }

  /** The value has a second use, so that nothing can be taken over. */
  shared(qkv: SymbolicTensor, positions: SymbolicTensor): SymbolicTensor {
    const [query, key, value] = this.split(qkv);
    const [q, k] = this.rotary.forward(positions, query, key);
    const again = ops.add({ a: ops.mul({ a: k, b: value }), b: value });
    const [left, right] = ops.split({ x: this.attn.forward(q, k, value) }, { sizes: [this.kvWidth, this.kvWidth] }) as [
      SymbolicTensor,
      SymbolicTensor,
    ];
    return ops.add({ a: ops.add({ a: left, b: right }), b: again });
  }

  private split(x: SymbolicTensor): [SymbolicTensor, SymbolicTensor, SymbolicTensor] {
    return ops.split({ x }, { sizes: [2 * this.kvWidth, this.kvWidth, this.kvWidth] }) as [SymbolicTensor, SymbolicTensor, SymbolicTensor];
  }
}

const inputs = { qkv: specOf('float32', 'batch', 'sequence', 128), positions: specOf('int64', 'batch', 'sequence') } as const;

/** A step for sequences that have `starts` rows already and bring `sequence` more. */
function stepInputs(starts: readonly number[], sequence: number, seed = 1, width = 128): Record<string, HostTensor> {
  const batch = starts.length;
  const lengths = starts.map((start) => start + sequence);
  return {
    qkv: float32([batch, sequence, width], seed),
    positions: int64(
      [batch, sequence],
      starts.flatMap((start) => Array.from({ length: sequence }, (_, i) => start + i)),
    ),
    queryStart: int32([batch], starts),
    sequenceLengths: int32([batch], lengths),
    totalLength: int32([], [Math.max(...lengths)]),
  };
}

test.each(['rotated', 'rotatedHalves', 'rotatedMixed', 'scaled', 'shared'] as const)(
  'attention over pieces and slots, in place: %s',
  async (form) => {
    using programs = await both(new Layer(), inputs, (layer, { qkv, positions }) => ({ y: layer[form](qkv, positions) }), options);
    // Two sequences in slots 1 and 2 in pieces of different length, then both together, then the second alone, then one more in slot 0.
    await expectSame(programs, stepInputs([0], 7, 1), { firstSlot: 1 });
    await expectSame(programs, stepInputs([0], 1, 2), { firstSlot: 2 });
    await expectSame(programs, stepInputs([1], 5, 3), { firstSlot: 2 });
    await expectSame(programs, stepInputs([7], 7, 4), { firstSlot: 1 });
    for (let i = 0; i < 3; i++) await expectSame(programs, stepInputs([14 + i, 6 + i], 1, 5 + i), { firstSlot: 1, batch: 2 });
    await expectSame(programs, stepInputs([9], 4, 9), { firstSlot: 2 });
    await expectSame(programs, stepInputs([0], 3, 10), { firstSlot: 0 });
    await expectSame(programs, stepInputs([3, 17, 13], 1, 11), { firstSlot: 0, batch: 3 });
    // A slot starts again: what the sequence before it left is not seen.
    await expectSame(programs, stepInputs([0], 2, 12), { firstSlot: 1 });
    await expectSame(programs, stepInputs([2], 22, 13), { firstSlot: 1 }); // to the last row
  },
);

test.each([8, 10, 24])('heads of %i elements, which the kernel does not rotate or must see padded', async (headDim) => {
  const specs = { ...inputs, qkv: specOf('float32', 'batch', 'sequence', 8 * headDim) };
  using programs = await both(new Layer(headDim), specs, (layer, { qkv, positions }) => ({ y: layer.rotated(qkv, positions) }), options);
  await expectSame(programs, stepInputs([0], 7, 1, 8 * headDim), { firstSlot: 1 });
  await expectSame(programs, stepInputs([0], 3, 2, 8 * headDim), { firstSlot: 2 });
  await expectSame(programs, stepInputs([7, 3], 1, 3, 8 * headDim), { firstSlot: 1, batch: 2 });
});

test.each<Partial<AttentionOptions> & { headDim?: number; rotaryDim?: number }>([
  { window: 5 },
  { window: 1 },
  { window: 100 },
  { softcap: 0.5 },
  { sinks: true },
  { window: 3, sinks: true },
  { window: 4, softcap: 0.7, sinks: true },
  { window: 4, softcap: 0.7, sinks: true, headDim: 10 },
  { rotaryDim: 8 },
  { rotaryDim: 16, headDim: 24 },
  { rotaryDim: 16, window: 6, headDim: 32 },
  { rotaryDim: 16, headDim: 26 },
])('what scores are made of besides keys, over pieces and batches: %o', async ({ headDim = 16, ...more }) => {
  const specs = { ...inputs, qkv: specOf('float32', 'batch', 'sequence', 8 * headDim) };
  for (const form of ['rotated', 'rotatedHalves', 'scaled'] as const) {
    using programs = await both(
      new Layer(headDim, more),
      specs,
      (layer, { qkv, positions }) => ({ y: layer[form](qkv, positions) }),
      options,
    );
    await expectSame(programs, stepInputs([0], 7, 1, 8 * headDim), { firstSlot: 1 });
    await expectSame(programs, stepInputs([0], 3, 2, 8 * headDim), { firstSlot: 2 });
    await expectSame(programs, stepInputs([7, 3], 1, 3, 8 * headDim), { firstSlot: 1, batch: 2 });
    await expectSame(programs, stepInputs([4], 9, 4, 8 * headDim), { firstSlot: 2 });
    await expectSame(programs, stepInputs([8, 13], 1, 5, 8 * headDim), { firstSlot: 1, batch: 2 });
    await expectSame(programs, stepInputs([0, 0], 4, 6, 8 * headDim), { firstSlot: 0, batch: 2 });
  }
});

test('a batch of first pieces is one run', async () => {
  using programs = await both(new Layer(), inputs, (layer, { qkv, positions }) => ({ y: layer.rotated(qkv, positions) }), options);
  await expectSame(programs, stepInputs([0, 0, 0], 6), { batch: 3 });
  await expectSame(programs, stepInputs([6, 6, 6], 1, 2), { batch: 3 });
});

test('fused and unfused attention agree', async () => {
  const call = (layer: Layer, { qkv, positions }: { qkv: SymbolicTensor; positions: SymbolicTensor }) => ({
    y: layer.rotated(qkv, positions),
  });
  using plain = await both(new Layer(), inputs, call, options, unfused);
  using fused = await both(new Layer(), inputs, call, options);
  for (const [starts, sequence] of [
    [[0], 5],
    [[5], 1],
    [[6], 9],
  ] as const) {
    await expectSame({ expected: plain.actual, actual: fused.actual }, stepInputs(starts, sequence, starts[0]), { firstSlot: 3 });
  }
});

test('two attentions with caches of different length run in one graph', async () => {
  const model = holder({ full: new Attention(heads), chunked: new Attention(heads) });
  const slots: CompileOptions['bindRuntimeInput'] = (path, kind) =>
    kind.startsWith('kvCache')
      ? { kind: 'cache', rows: path.startsWith('full') ? 24 : 6 }
      : {
          kind: 'input',
          name: kind === 'totalLength' || kind === 'queryStart' || kind === 'sequenceLengths' ? `${path.split('.')[0]}.${kind}` : kind,
        };
  using programs = await both(
    model,
    { q: specOf('float32', 'batch', 'sequence', 64), kv: specOf('float32', 'batch', 'sequence', 32) },
    (m, { q, kv }) => ({ y: m.chunked.forward(m.full.forward(q, kv, kv), kv, kv) }),
    { ...options, bindRuntimeInput: slots },
  );
  const group = (name: string, start: number, count: number) => ({
    [`${name}.queryStart`]: int32([1], [start]),
    [`${name}.sequenceLengths`]: int32([1], [start + count]),
    [`${name}.totalLength`]: int32([], [start + count]),
  });
  for (const [start, count] of [
    [0, 4],
    [4, 2],
    [6, 1],
    [7, 5],
  ] as const) {
    const tensors = { q: float32([1, count, 64], start + 1), kv: float32([1, count, 32], start + 2) };
    await expectSame(programs, { ...tensors, ...group('full', start, count), ...group('chunked', start % 6, count) });
  }
});

test('what the kernel would answer wrongly is refused by name', async () => {
  using programs = await both(new Layer(), inputs, (layer, { qkv, positions }) => ({ y: layer.rotated(qkv, positions) }), options);
  const run = (step: Record<string, HostTensor>, batch = 1, firstSlot = 0) => programs.actual.run({ firstSlot, batch, inputs: step });
  await run(stepInputs([0], 4));
  const good = stepInputs([4], 1);
  await expect(run(stepInputs([4, 4], 2), 2)).rejects.toThrow(/run a sequence alone/);
  await expect(run(stepInputs([24], 1))).rejects.toThrow(/has 24 rows; 25 are needed/);
  await expect(run({ ...stepInputs([4], 8), sequenceLengths: int32([1], [9]), totalLength: int32([], [9]) })).rejects.toThrow(/do not pad/);
  await expect(run({ ...good, sequenceLengths: int32([1], [0]) })).rejects.toThrow(/must be between 1 and 5/);
  await expect(run({ ...good, totalLength: int32([], [4]) })).rejects.toThrow(/must be between 1 and 4/);
  await expect(run(good, 1, 4)).rejects.toThrow(/slots 4 to 4; the program has 4/);
  const { positions: _, ...missing } = good;
  await expect(run(missing)).rejects.toThrow(/missing[\s\S]*input "positions"/);
  await expect(run({ ...good, extra: good['qkv']! })).rejects.toThrow(/input "extra"/);
  await expect(run({ ...good, positions: int32([1, 1], [4]) })).rejects.toThrow(/int64 is expected[\s\S]*"positions"/);
  await expect(run({ ...good, positions: int64([1, 2], [4, 5]) })).rejects.toThrow(/"sequence" is 1[\s\S]*"positions"/);
  await expect(run({ ...good, qkv: float32([1, 1, 127]) })).rejects.toThrow(/Axis 2 is 127; 128 is expected/);
  await expect(run({ ...good, qkv: float32([1, 128]) })).rejects.toThrow(ProgramInputError);
  await expectSame(programs, good, { tolerance: Number.POSITIVE_INFINITY }); // and the program still runs
});
