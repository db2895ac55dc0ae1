import { setImmediate as turn } from 'node:timers/promises';
import { DisposedError } from '@graft/common';
import { Llama4ForCausalLM, llama4, upstreamContext } from '@graft/core-model';
import { captureLanguageModel } from '@graft/engine';
import { blockOf } from '@graft/ggml';
import {
  type Backend,
  type BlockTypeName,
  blockTypes,
  CaptureCache,
  type CapturedModel,
  type CompileOptions,
  captureModel,
  type HostTensor,
  InterpreterBackend,
  Module,
  ops,
  Parameter,
  type Program,
  ProgramBusyError,
  ProgramInputError,
  rangesStorage,
  type StorageFormat,
  type SymbolicTensor,
  type WeightStorage,
} from '@graft/graph';
import { expect, test } from 'vitest';
import { both, expectSame, float32, holder, int32, int64, parameter, randomStorage, specOf } from '../../../tests/compare.fixture.ts';
import { GgmlBackend } from './index.ts';

const rows = 40;
const options: CompileOptions = {
  kvSlots: 3,
  threads: 1,
  bindRuntimeInput: (_path, kind) => (kind.startsWith('kvCache') ? { kind: 'cache', rows } : { kind: 'input', name: kind }),
};
const backend = new GgmlBackend({ cacheType: 'F32' });

/** MoE and dense layers, with RoPE and without. */
function tinyModel(format: StorageFormat, more: Record<string, unknown> = {}): Llama4ForCausalLM {
  const config = llama4.parseConfig({
    vocab_size: 96,
    hidden_size: 32,
    intermediate_size: 32,
    intermediate_size_mlp: 64,
    num_hidden_layers: 4,
    num_attention_heads: 4,
    num_key_value_heads: 2,
    head_dim: 16,
    max_position_embeddings: rows,
    num_local_experts: 4,
    interleave_moe_layer_step: 2,
    floor_scale: 8,
    bos_token_id: 1,
    eos_token_id: 2,
    ...more,
  });
  const model = new Llama4ForCausalLM(upstreamContext('Llama4ForCausalLM', config));
  let seed = 1;
  for (const [name, weight] of model.namedParameters()) {
    const quantised = weight.shape.length > 1 && !name.endsWith('router.weight');
    weight.setStorage(randomStorage(quantised ? format : 'float32', weight.shape, ++seed));
  }
  return model;
}

/** Sequence b has `computed[b]` tokens in the cache and gets `count` more. */
function tokens(computed: readonly number[], count: number): Record<string, HostTensor> {
  const batch = computed.length;
  const each = (make: (start: number, i: number) => number): number[] =>
    computed.flatMap((start) => Array.from({ length: count }, (_, i) => make(start, i)));
  const lengths = computed.map((start) => start + count);
  const dims = [batch, count];
  return {
    inputIds: int64(
      dims,
      each((start, i) => (i * 31 + start * 7 + 5) % 96),
    ),
    positions: int64(
      dims,
      each((start, i) => start + i),
    ),
    logitsIndices: int64(
      [batch],
      computed.map((_, b) => b * count + count - 1),
    ),
    queryStart: int32([batch], computed),
    sequenceLengths: int32([batch], lengths),
    totalLength: int32([], [Math.max(...lengths)]),
  };
}

const captureTiny = (model: Llama4ForCausalLM): CapturedModel => captureLanguageModel(model, new CaptureCache());

async function compiled(captured: CapturedModel, on: Backend = backend): Promise<{ expected: Program; actual: Program } & Disposable> {
  const [expected, actual] = [await new InterpreterBackend().compile(captured, options), await on.compile(captured, options)];
  return {
    expected,
    actual,
    [Symbol.dispose]() {
      for (const program of [expected, actual]) program[Symbol.dispose]();
    },
  };
}

test.each([
  ['float32', {}, 1e-4],
  ['float32', { num_experts_per_tok: 2, tie_word_embeddings: true }, 1e-4],
  ['bfloat16', { interleave_moe_layer_step: 0 }, 0.02],
  ['float16', { interleave_moe_layer_step: 0 }, 0.02],
  // Held in float32: they are no types of ggml.
  ['int8b32', { tie_word_embeddings: true }, 1e-4],
  ['int4b32o', { tie_word_embeddings: true }, 1e-4],
] as const)(
  'a whole model in %s (%o) computes what the interpreter computes, in pieces and in batches',
  async (format, more, tolerance) => {
    using programs = await compiled(captureTiny(tinyModel(format, more)));
    await expectSame(programs, tokens([0], 7), { firstSlot: 1, tolerance });
    await expectSame(programs, tokens([7], 5), { firstSlot: 1, tolerance });
    await expectSame(programs, tokens([0], 3), { firstSlot: 2, tolerance });
    // Sequences of different lengths in one step, with one query and with several.
    await expectSame(programs, tokens([12, 3], 1), { firstSlot: 1, batch: 2, tolerance });
    await expectSame(programs, tokens([13, 4], 4), { firstSlot: 1, batch: 2, tolerance });
  },
);

test.each(['float32', 'float16', 'bfloat16'] as const)(
  'a model in %s gives the logits of a token bit for bit in runs of one and of several tokens, at any length of the context',
  async (format) => {
    const captured = captureTiny(tinyModel(format, { interleave_moe_layer_step: 0, max_position_embeddings: 704 }));
    const cache = { kind: 'cache', rows: 704 } as const;
    const bindRuntimeInput: CompileOptions['bindRuntimeInput'] = (path, kind) =>
      kind.startsWith('kvCache') ? cache : options.bindRuntimeInput(path, kind);
    using program = await new GgmlBackend().compile(captured, { ...options, threads: 2, bindRuntimeInput });
    expect(program.rowsMayAgree).toBe(true);
    const logitsOf = async (computed: number, count: number): Promise<number[][]> => {
      const each = [...Array(count).keys()];
      const inputIds = int64(
        [1, count],
        each.map((i) => ((computed + i) * 31) % 96),
      );
      const inputs = { ...tokens([computed], count), inputIds, logitsIndices: int64([count], each) };
      const { data, dims } = (await program.run({ firstSlot: 0, batch: 1, inputs }))['logits']!;
      return Array.from({ length: count }, (_, row) => [...(data as Float32Array).subarray(row * dims[1]!, (row + 1) * dims[1]!)]);
    };
    await logitsOf(0, 640);
    for (const [start, count] of [
      [250, 8],
      [508, 8],
      [640, 2],
      [640, 5],
    ] as const) {
      const together = await logitsOf(start, count);
      for (let i = 0; i < count; i++) expect((await logitsOf(start + i, 1))[0]).toEqual(together[i]);
    }
  },
);

test('a model whose heads share no keys, or with a cache of odd length, states no such agreement', async () => {
  const agrees = async (more: Record<string, unknown>, length = 64): Promise<boolean> => {
    const captured = captureTiny(tinyModel('float32', { max_position_embeddings: 64, ...more }));
    const bindRuntimeInput: CompileOptions['bindRuntimeInput'] = (path, kind) =>
      kind.startsWith('kvCache') ? { kind: 'cache', rows: length } : options.bindRuntimeInput(path, kind);
    using program = await backend.compile(captured, { ...options, bindRuntimeInput });
    return program.rowsMayAgree === true;
  };
  expect([await agrees({}), await agrees({ num_key_value_heads: 4 }), await agrees({}, 40)]).toEqual([true, false, false]);
});

test('the blocks of each type of GGML have the size that ggml gives them', () => {
  for (const [name, { elements, bytes }] of Object.entries(blockTypes))
    expect([name, blockOf(name as BlockTypeName)]).toEqual([name, { elements, bytes }]);
});

test('a cache in float16 changes results little', async () => {
  using programs = await compiled(captureTiny(tinyModel('float32')), new GgmlBackend());
  await expectSame(programs, tokens([0], 9), { tolerance: 2e-3 });
  await expectSame(programs, tokens([9], 1), { tolerance: 2e-3 });
  // Values are kept twice.
  expect(programs.actual.facts.cacheBytes).toBe((programs.expected.facts.cacheBytes / 2) * 1.5);
});

test.each(['F32', 'F16'] as const)('rows that another program computed continue a sequence in another slot (%s)', async (cacheType) => {
  const captured = captureTiny(tinyModel('float32'));
  const [filled, empty] = [
    await new GgmlBackend({ cacheType }).compile(captured, options),
    await new GgmlBackend({ cacheType }).compile(captured, options),
  ];
  using _ = filled;
  using __ = empty;
  await filled.run({ firstSlot: 0, batch: 1, inputs: tokens([0], 9) });
  for (const layer of [0, 1, 2, 3]) {
    for (const name of ['keyCache', 'valueCache']) {
      const path = `model.layers.${layer}.self_attn.attn.${name}`;
      empty.writeCacheRows({ path, slot: 2, row: 0 }, filled.readCacheRows({ path, slot: 0, row: 0, count: 9 }));
    }
  }
  const expected = (await filled.run({ firstSlot: 0, batch: 1, inputs: tokens([9], 1) }))['logits']!.data.slice();
  const actual = (await empty.run({ firstSlot: 2, batch: 1, inputs: tokens([9], 1) }))['logits']!.data;
  expect(actual).toEqual(expected);
  const place = { path: 'model.layers.0.self_attn.attn.keyCache', slot: 2, row: rows - 1 };
  expect(() => empty.readCacheRows({ ...place, count: 2 })).toThrow(/Rows 39 to 41 of slot 2 are meant; it has 3 slots of 40 rows/);
  expect(() => empty.writeCacheRows({ ...place, path: 'model.cache' }, new Uint8Array(4))).toThrow(/no such cache; it has model/);
});

test('rows of a cache are moved', async () => {
  using programs = await compiled(captureTiny(tinyModel('float32', { no_rope_layers: [0, 0, 0, 0], attn_temperature_tuning: false })));
  await expectSame(programs, tokens([0], 9), { firstSlot: 1 });
  const moves = [0, 1, 2, 3].flatMap((layer) =>
    ['keyCache', 'valueCache'].map((name) => ({ path: `model.layers.${layer}.self_attn.attn.${name}`, slot: 1, from: 4, count: 5 })),
  );
  for (const program of [programs.expected, programs.actual]) program.moveCacheRows!(moves);
  await expectSame(programs, tokens([5], 2), { firstSlot: 1 });
});

test('a wrong step is refused before ggml reads it', async () => {
  using program = await backend.compile(captureTiny(tinyModel('float32')), options);
  const run = (inputs: Record<string, HostTensor>, firstSlot = 0) => program.run({ firstSlot, batch: 1, inputs });
  await expect(run(tokens([0], 3), 3)).rejects.toThrow(ProgramInputError);
  await expect(run(tokens([38], 3))).rejects.toThrow(/cache has 40/);
  await expect(run(tokens([-1], 3))).rejects.toThrow(ProgramInputError);
  const { positions: _, ...without } = tokens([0], 3);
  await expect(run(without)).rejects.toThrow('The input is missing');
  await expect(run({ ...tokens([0], 3), inputIds: int64([1, 3], [1, 96, 2]) })).rejects.toThrow('Index 96');
  await expect(run({ ...tokens([0], 3), positions: int64([1, 3], [0, 1, 40]) })).rejects.toThrow('Index 40');
});

test('an input, a weight or one value twice may be an output', async () => {
  const model = holder({ row: parameter([4]) });
  const call = (m: typeof model, { x }: { x: SymbolicTensor }) => {
    const sum = ops.add({ a: x, b: x });
    return { x, row: m.row, sum, again: sum };
  };
  using programs = await both(model, { x: specOf('float32', 'n', 4) }, call as never, undefined, backend);
  await expectSame(programs, { x: float32([3, 4]) });
});

test('axes broadcast, move and join as the interpreter has them', async () => {
  const model = holder({ table: parameter([5, 1, 3]) });
  const call = (m: typeof model, { x }: { x: SymbolicTensor }) => {
    const table = m.table as unknown as SymbolicTensor; // [5, 1, 3]
    const wide = x.reshape(x.dim(0), 1, 4, 3).add(table); // [n, 5, 4, 3]
    const moved = wide.permute(2, 0, 3, 1); // [4, n, 3, 5]
    const split = moved.reshape(4, x.dim(0), 15).split(5, 10);
    return { wide, moved, tail: split[1]!.mul(2), part: wide.slice(1, 1, 4).sub(x.reshape(x.dim(0), 1, 4, 3)), less: table.sub(wide) };
  };
  using programs = await both(model, { x: specOf('float32', 'n', 12) }, call as never, undefined, backend);
  await expectSame(programs, { x: float32([2, 12]) });
});

/** Rows in float32 and float16, and the same values as one storage in float32. */
function mixedRows(shape: readonly number[], rows: readonly number[]): WeightStorage {
  const formats = ['float32', 'float16', 'float16'] as const;
  return rangesStorage(
    shape,
    rows.map((count, i) => randomStorage(formats[i]!, shape.with(-2, count), i + 1)),
  );
}

test('a matrix whose rows have several types is multiplied in its types, and its parts are read apart and as one', async () => {
  const weight = new Parameter([12, 8]);
  weight.setStorage(mixedRows([12, 8], [4, 6, 2]));
  const model = holder({ weight, bias: parameter([12]) });
  const call = (m: typeof model, { x }: { x: SymbolicTensor }) => {
    const y = ops.linear({ x, weight: m.weight, bias: m.bias });
    const [low, high] = y.split(10, 2) as [SymbolicTensor, SymbolicTensor];
    return {
      y,
      within: y.slice(1, 5, 9),
      high: high.mul(2),
      low: low.mul(2),
      gated: ops.siluAndMul({ x: ops.linear({ x, weight: m.weight }) }),
    };
  };
  using programs = await both(model, { x: specOf('float32', 'n', 8) }, call as never, undefined, backend);
  await expectSame(programs, { x: float32([3, 8]) }, { tolerance: 5e-3 });
});

test('experts whose rows have several types are multiplied in their types', async () => {
  const model = tinyModel('float32', { num_experts_per_tok: 2 });
  for (const [name, weight] of model.namedParameters())
    if (name.endsWith('w13_weight')) weight.setStorage(mixedRows(weight.shape, [32, 32]));
  using programs = await compiled(captureTiny(model));
  await expectSame(programs, tokens([0], 7), { tolerance: 5e-3 });
});

test('a weight without values is named', async () => {
  const model = holder({ empty: new Parameter([4, 4]) });
  const captured = captureModel(model, {
    inputs: { x: specOf('float32', 'n', 4) },
    call: (m, { x }) => ({ y: ops.linear({ x, weight: m.empty }) }),
  });
  await expect(backend.compile(captured, options)).rejects.toThrow(/The weight "empty" has no values/);
});

/** Many products, so that there is time to do something meanwhile. */
class Slow extends Module {
  readonly weight = parameter([256, 256], 'float32', 7);

  forward(x: SymbolicTensor): SymbolicTensor {
    let y = x;
    for (let i = 0; i < 200; i++) y = ops.sigmoid({ x: ops.linear({ x: y, weight: this.weight }) });
    return y;
  }
}
const slowProgram = () =>
  backend.compile(
    captureModel(new Slow(), { inputs: { x: specOf('float32', 'n', 256) }, call: (m, { x }) => ({ y: m.forward(x) }) }),
    options,
  );
const slowStep = { firstSlot: 0, batch: 1, inputs: { x: float32([1000, 256]) } };

test('the event loop goes on during a run, a second run is refused, and an abort ends it', async () => {
  using program = await slowProgram();
  const controller = new AbortController();
  const reason = new Error('the client went away');
  const run = program.run({ ...slowStep, signal: controller.signal });
  await expect(program.run(slowStep)).rejects.toThrow(ProgramBusyError);
  for (let turns = 0; turns < 5; turns++) await turn();
  controller.abort(reason);
  await expect(run).rejects.toBe(reason);
  const { y } = await program.run({ ...slowStep, inputs: { x: float32([1, 256]) } });
  expect(y!.dims).toEqual([1, 256]);
});

test('a program may be disposed twice and during a run; the run rejects, and so does every later one', async () => {
  const program = await slowProgram();
  const rejected = expect(program.run(slowStep)).rejects.toThrow(DisposedError);
  program[Symbol.dispose]();
  program[Symbol.dispose]();
  await rejected;
  await expect(program.run(slowStep)).rejects.toThrow(DisposedError);
});
