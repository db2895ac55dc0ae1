import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import type { CompileOptions, HostTensor, ProgramStep } from './backend.ts';
import { type CapturedModel, captureModel } from './capture/capture.ts';
import { inlineRegions } from './compile/full.ts';
import { InterpreterBackend } from './interpreter.ts';
import { ModuleList } from './nn/containers.ts';
import { lendChild, Module } from './nn/module.ts';
import { Buffer, Parameter } from './nn/parameter.ts';
import { RuntimeInput } from './nn/runtime-input.ts';
import { memoryStorage } from './nn/storage.ts';
import { ops } from './ops/index.ts';
import { Dim } from './shape.ts';
import type { Tensor } from './tensor.ts';

const batch = Dim.symbol('batch');
const sequence = Dim.symbol('sequence');

function filled(shape: number[], seed: number): Parameter {
  const parameter = new Parameter(shape);
  const count = shape.reduce((a, b) => a * b, 1);
  const data = Float32Array.from({ length: count }, (_, i) => Math.sin(seed * 100 + i * 1.7));
  parameter.setStorage(memoryStorage('float32', shape, { data }));
  return parameter;
}

const float = (dims: number[], data: ArrayLike<number>): HostTensor => ({ dtype: 'float32', dims, data: Float32Array.from(data) });
const int32 = (dims: number[], ...data: number[]): HostTensor => ({ dtype: 'int32', dims, data: Int32Array.from(data) });

/** Attention over its own cache and a linear layer; the second class lacks the norm. */
class Layer extends Module {
  static override readonly region = { name: 'layer', inputs: ['hidden', 'residual'] };
  readonly qkv: Parameter;
  readonly gain: Parameter;
  readonly offset = new Buffer([4], Float32Array.of(0.1, 0.2, 0.3, 0.4));
  readonly keyCache = new RuntimeInput('cache', 'float32', ['batch', 1, 'rows', 4]);
  readonly valueCache = new RuntimeInput('cache', 'float32', ['batch', 1, 'rows', 4]);
  readonly queryStart = new RuntimeInput('queryStart', 'int32', ['batch']);
  readonly sequenceLengths = new RuntimeInput('sequenceLengths', 'int32', ['batch']);
  readonly totalLength = new RuntimeInput('totalLength', 'int32', []);

  constructor(seed: number) {
    super();
    this.qkv = filled([12, 4], seed);
    this.gain = filled([4], seed + 50);
  }

  forward(hidden: Tensor, residual: Tensor): [Tensor, Tensor] {
    const [normed, sum] = ops.addRmsNorm({ x: hidden, residual, weight: this.gain }, { epsilon: 1e-5 });
    const [query, key, value] = ops.split({ x: ops.linear({ x: normed, weight: this.qkv, bias: null }) }, { sizes: [4, 4, 4] });
    const { keyCache, valueCache, queryStart, sequenceLengths, totalLength } = this;
    const out = ops.attention(
      { query: query!, key: key!, value: value!, keyCache, valueCache, queryStart, sequenceLengths, totalLength },
      { numHeads: 1, numKvHeads: 1, headDim: 4, scale: 0.5 },
    );
    return [ops.add({ a: out, b: this.offset }), sum];
  }
}

class OtherLayer extends Module {
  static override readonly region = { name: 'layer', inputs: ['hidden', 'residual'] };
  readonly weight: Parameter;
  declare shared: Parameter;
  constructor(seed: number) {
    super();
    this.weight = filled([8, 4], seed);
  }
  forward(hidden: Tensor, residual: Tensor): [Tensor, Tensor] {
    const y = ops.siluAndMul({ x: ops.linear({ x: ops.mul({ a: hidden, b: this.shared }), weight: this.weight }) });
    return [y, ops.add({ a: residual, b: hidden })];
  }
}

class Model extends Module {
  readonly table = filled([10, 4], 1);
  readonly shared = filled([4], 9);
  readonly layers = new ModuleList<Layer | OtherLayer>([new Layer(2), new OtherLayer(3), new Layer(4), new OtherLayer(5)]);

  constructor() {
    super();
    for (const layer of this.layers) if (layer instanceof OtherLayer) lendChild(layer, 'shared', this.shared as never);
  }

  forward(ids: Tensor): { hidden: Tensor; logits: Tensor } {
    let hidden = ops.embedding({ ids, weight: this.table });
    let residual = ops.zerosLike({ x: hidden });
    for (const layer of this.layers) [hidden, residual] = layer.forward(hidden, residual);
    hidden = ops.add({ a: hidden, b: residual });
    const rows = ops.reshape({ x: hidden }, { dims: [hidden.dim(0).times(hidden.dim(1)), 4] });
    return { hidden, logits: ops.linear({ x: rows, weight: this.table }) };
  }
}

function captured(model = new Model()): CapturedModel {
  return captureModel(model, {
    inputs: { ids: { dtype: 'int64', dims: [batch, sequence] } },
    call: (m, { ids }) => m.forward(ids),
    batch,
  });
}

const options: CompileOptions = {
  bindRuntimeInput: (_path, kind) => (kind === 'cache' ? { kind: 'cache', rows: 6 } : { kind: 'input', name: kind }),
  kvSlots: 3,
};

function step(ids: number[][], start = 0, change: Partial<ProgramStep> = {}): ProgramStep {
  const [rows, columns] = [ids.length, ids[0]!.length];
  const inputs = {
    ids: { dtype: 'int64', dims: [rows, columns], data: BigInt64Array.from(ids.flat(), BigInt) },
    queryStart: int32([rows], ...ids.map(() => start)),
    sequenceLengths: int32([rows], ...ids.map(() => start + columns)),
    totalLength: int32([], start + columns),
  } as const;
  return { firstSlot: 0, batch: rows, inputs, ...change };
}

describe('a model with two kinds of region', () => {
  test('runs through its regions as through the inlined graph, cache included', async () => {
    const regional = captured();
    expect(regional.cache.count('layer')).toBe(2);
    const inlined = { ...regional, graph: inlineRegions(regional) };
    using a = await new InterpreterBackend().compile(regional, options);
    using b = await new InterpreterBackend().compile(inlined, options);
    for (const [ids, start] of [
      [
        [
          [1, 2, 3],
          [4, 5, 6],
        ],
        0,
      ],
      [[[7], [8]], 3],
      [[[9], [0]], 4],
    ] as const) {
      const at = step(
        ids.map((row) => [...row]),
        start,
      );
      const [left, right] = [await a.run(at), await b.run(at)];
      expect(left).toEqual(right);
      expect(left['hidden']!.dims).toEqual([2, ids[0].length, 4]);
      expect(left['logits']!.dims).toEqual([2 * ids[0].length, 10]);
      expect(Array.from(left['logits']!.data as Float32Array).every((value) => Number.isFinite(value) && value !== 0)).toBe(true);
    }
  });

  test('token by token gives what a prefill gives, in any slot', async () => {
    using program = await new InterpreterBackend().compile(captured(), options);
    const whole = await program.run(step([[3, 1, 4, 1, 5]]));
    const all = Array.from(whole['logits']!.data as Float32Array);
    for (const [i, id] of [3, 1, 4, 1, 5].entries()) {
      const { logits } = await program.run(step([[id]], i, { firstSlot: 2 }));
      expect(Array.from(logits!.data as Float32Array)).toEqual(all.slice(10 * i, 10 * i + 10));
    }
  });

  test('batch and sequence of 1 are two sizes that happen to agree', async () => {
    using program = await new InterpreterBackend().compile(captured(), options);
    const single = await program.run(step([[7]]));
    const wide = await program.run(step([[7], [2]]));
    expect(Array.from(wide['logits']!.data as Float32Array).slice(0, 10)).toEqual(Array.from(single['logits']!.data as Float32Array));
  });

  test('layers that share a graph use their own weights', async () => {
    const model = new Model();
    using program = await new InterpreterBackend().compile(captured(model), options);
    const before = await program.run(step([[1, 2]]));
    (model.layers[2] as Layer).qkv.setStorage(filled([12, 4], 77).storage!);
    using changed = await new InterpreterBackend().compile(captured(model), options);
    expect((await changed.run(step([[1, 2]])))['logits']).not.toEqual(before['logits']);
  });

  test('a program keeps its weights when the model changes', async () => {
    const model = new Model();
    using program = await new InterpreterBackend().compile(captured(model), options);
    using other = await new InterpreterBackend().compile(captured(new Model()), options);
    const expected = (await other.run(step([[3, 1, 4]])))['logits'];
    for (const [, parameter] of model.namedParameters()) parameter.setStorage(filled([...parameter.shape], 77).storage!);
    Object.defineProperty(model, 'layers', { value: new ModuleList([]), enumerable: true, configurable: true });
    expect((await program.run(step([[3, 1, 4]])))['logits']).toEqual(expected);
    using fresh = await new InterpreterBackend().compile(captured(model), options);
    expect((await fresh.run(step([[3, 1, 4]])))['logits']).not.toEqual(expected);
  });

  test('facts count graphs, weights once each, and caches', async () => {
    using program = await new InterpreterBackend().compile(captured(), options);
    const floats = 10 * 4 + 4 + 2 * (12 * 4 + 4 + 4) + 2 * 8 * 4;
    const rows = 2 * 2 * 6 * 4;
    expect(program.facts).toEqual({ graphs: 3, weightBytes: 4 * floats, cacheBytes: 4 * 3 * rows });
  });
});

describe('a step is checked before anything is computed', () => {
  const good = step([
    [1, 2],
    [3, 4],
  ]);
  const withInput = (name: string, tensor: HostTensor | undefined): ProgramStep =>
    ({ ...good, inputs: { ...good.inputs, [name]: tensor } }) as ProgramStep;

  test.each<[string, ProgramStep, string, string]>([
    ['a missing input', withInput('ids', undefined), 'It is missing', 'input "ids"'],
    ['a missing value of a runtime input', withInput('queryStart', undefined), 'It is missing', 'input "queryStart"'],
    ['another element type', withInput('ids', int32([2, 2], 1, 2, 3, 4)), 'is int32, expected int64', 'input "ids"'],
    [
      'an array of another type',
      withInput('ids', { dtype: 'int64', dims: [2, 2], data: Int32Array.of(1, 2, 3, 4) }),
      'Int32Array',
      'input "ids"',
    ],
    [
      'another rank',
      withInput('ids', { dtype: 'int64', dims: [4], data: new BigInt64Array(4) }),
      '[4], expected [batch, sequence]',
      'input "ids"',
    ],
    [
      'too few elements',
      withInput('ids', { dtype: 'int64', dims: [2, 2], data: new BigInt64Array(3) }),
      'needs 4 elements and has 3',
      'input "ids"',
    ],
    [
      'a batch that disagrees with an earlier one',
      withInput('sequenceLengths', int32([3], 2, 2, 2)),
      'Its dimension "batch" is 3; input "ids" has 2.',
      'input "sequenceLengths", for runtime input layers.0.sequenceLengths',
    ],
    ["a batch other than the inputs'", { ...good, batch: 1 }, '"batch" is 1; input "ids" has 2', 'step.batch'],
    ['a scalar with an axis', withInput('totalLength', int32([1], 2)), '[1], expected []', 'input "totalLength"'],
    ['slots past the last one', { ...good, firstSlot: 2 }, 'Slots 2 to 3 do not exist; the program has 3.', 'step.firstSlot'],
    ['a negative slot', { ...good, firstSlot: -1 }, 'Slots -1 to 0', 'step.firstSlot'],
  ])('%s', async (_what, bad, words, where) => {
    using program = await new InterpreterBackend().compile(captured(), options);
    const failure: unknown = await program.run(bad).catch((error: unknown) => error);
    expect(failure).toMatchObject({ code: 'GRAFT_PROGRAM_INPUT' });
    expect((failure as { what: string }).what).toContain(words);
    expect((failure as { where: string }).where).toContain(where);
    await expect(program.run(good)).resolves.toBeDefined();
  });

  test('a static dimension must be met', async () => {
    const model = captureModel(new Module(), {
      inputs: { x: { dtype: 'float32', dims: [batch, Dim.of(3)] } },
      call: (_, { x }) => ({ y: ops.floor({ x }) }),
    });
    using program = await new InterpreterBackend().compile(model, options);
    await expect(program.run({ firstSlot: 0, batch: 1, inputs: { x: float([1, 2], [1, 2]) } })).rejects.toThrow(
      'dimension 3 is 2, expected 3',
    );
  });

  test('an unloaded weight says so', async () => {
    const model = new Model();
    (model as { table: Parameter }).table = new Parameter([10, 4]);
    const compile = new InterpreterBackend().compile(captured(model), options);
    await expect(compile).rejects.toThrow(expect.objectContaining({ code: 'GRAFT_PARAMETER_WITHOUT_STORAGE' }));
  });
});

describe('compile and dispose', () => {
  test.each([0, 1.5])('a cache of %d rows is refused', async (rows) => {
    const compile = new InterpreterBackend().compile(captured(), { ...options, bindRuntimeInput: () => ({ kind: 'cache', rows }) });
    await expect(compile).rejects.toThrow(
      expect.objectContaining({ code: 'GRAFT_RUNTIME_BINDING', where: 'runtime input layers.0.keyCache' }),
    );
  });

  test('a runtime input without a batch axis cannot be a cache', async () => {
    const bindRuntimeInput: CompileOptions['bindRuntimeInput'] = (_path, kind) =>
      kind === 'totalLength' ? { kind: 'cache', rows: 6 } : options.bindRuntimeInput(_path, kind);
    await expect(new InterpreterBackend().compile(captured(), { ...options, bindRuntimeInput })).rejects.toThrow(
      'runtime input layers.0.totalLength',
    );
  });

  test('an aborted signal stops compile and run', async () => {
    const signal = AbortSignal.abort();
    await expect(new InterpreterBackend().compile(captured(), { ...options, signal })).rejects.toThrow('aborted');
    using program = await new InterpreterBackend().compile(captured(), options);
    await expect(program.run(step([[1]], 0, { signal }))).rejects.toThrow('aborted');
  });

  test('a disposed program refuses to run; disposing twice does no harm', async () => {
    const program = await new InterpreterBackend().compile(captured(), options);
    program[Symbol.dispose]();
    program[Symbol.dispose]();
    await expect(program.run(step([[1]]))).rejects.toThrow(expect.objectContaining({ code: 'GRAFT_DISPOSED' }));
  });
});

/** An expression over `x [rows, 3]` and `w [3]`. */
type Expression =
  | { op: 'x' | 'w' }
  | { op: 'add' | 'mul'; a: Expression; b: Expression }
  | { op: 'addScalar' | 'mulScalar'; a: Expression; value: number }
  | { op: 'sigmoid' | 'floor'; a: Expression };

const { expression } = fc.letrec<{ expression: Expression }>((tie) => ({
  expression: fc.oneof(
    { depthSize: 'small', withCrossShrink: true },
    fc.record({ op: fc.constantFrom('x' as const, 'w' as const) }),
    fc.record({ op: fc.constantFrom('add' as const, 'mul' as const), a: tie('expression'), b: tie('expression') }),
    fc.record({
      op: fc.constantFrom('addScalar' as const, 'mulScalar' as const),
      a: tie('expression'),
      value: fc.integer({ min: -4, max: 4 }),
    }),
    fc.record({ op: fc.constantFrom('sigmoid' as const, 'floor' as const), a: tie('expression') }),
  ),
}));

function build(e: Expression, x: Tensor, w: Tensor): Tensor {
  if (e.op === 'x') return x;
  if (e.op === 'w') return w;
  if (e.op === 'add' || e.op === 'mul') return ops[e.op]({ a: build(e.a, x, w), b: build(e.b, x, w) });
  if (e.op === 'addScalar' || e.op === 'mulScalar') return ops[e.op]({ x: build(e.a, x, w) }, { value: e.value });
  return ops[(e as { op: 'sigmoid' | 'floor' }).op]({ x: build((e as { a: Expression }).a, x, w) });
}

/** The same expression of two numbers, rounded to float32 at every step. */
function evaluate(e: Expression, x: number, w: number): number {
  const value = (): number => {
    switch (e.op) {
      case 'x':
        return x;
      case 'w':
        return w;
      case 'add':
        return evaluate(e.a, x, w) + evaluate(e.b, x, w);
      case 'mul':
        return evaluate(e.a, x, w) * evaluate(e.b, x, w);
      case 'addScalar':
        return evaluate(e.a, x, w) + e.value;
      case 'mulScalar':
        return evaluate(e.a, x, w) * e.value;
      case 'sigmoid':
        return 1 / (1 + Math.exp(-evaluate(e.a, x, w)));
      case 'floor':
        return Math.floor(evaluate(e.a, x, w));
    }
  };
  return Math.fround(value());
}

test('any elementwise graph, in a region or not, computes what the expression says', async () => {
  const numbers = fc
    .array(fc.float({ noNaN: true, min: -8, max: 8 }), { minLength: 3, maxLength: 12 })
    .map((list) => list.slice(0, list.length - (list.length % 3)));
  await fc.assert(
    fc.asyncProperty(
      expression,
      numbers,
      fc.tuple(fc.float({ noNaN: true, min: -2, max: 2 }), fc.constant(0), fc.constant(1.5)),
      fc.boolean(),
      async (e, xs, ws, inRegion) => {
        class Computed extends Module {
          static override readonly region = inRegion ? { name: 'computed', inputs: ['x', 'w'] } : null;
          forward(x: Tensor, w: Tensor): Tensor {
            return build(e, x, w);
          }
        }
        const model = captureModel(new Computed(), {
          inputs: { x: { dtype: 'float32', dims: [Dim.symbol('rows'), Dim.of(3)] }, w: { dtype: 'float32', dims: [Dim.of(3)] } },
          call: (m, { x, w }) => ({ y: ops.add({ a: m.forward(x, w), b: ops.zerosLike({ x }) }) }),
        });
        using program = await new InterpreterBackend().compile(model, options);
        const inputs = { x: float([xs.length / 3, 3], xs), w: float([3], ws) };
        const { y } = await program.run({ firstSlot: 0, batch: 1, inputs });
        expect(Array.from(y!.data as Float32Array)).toEqual(xs.map((x, i) => Math.fround(evaluate(e, x, Math.fround(ws[i % 3]!)) + 0)));
      },
    ),
    { numRuns: 150 },
  );
});
