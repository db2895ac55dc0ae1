import { type HostTensor, ops, type SymbolicTensor } from '@graft/graph';
import { describe, expect, test } from 'vitest';
import { both, expectSame, float32, holder, int64, parameter, specOf, symbol } from '../../../tests/compare.fixture.ts';

const nothing = holder({});
/** Batch and sequence of the steps that each op is run with. */
const sizes: [batch: number, sequence: number][] = [
  [1, 1],
  [2, 1],
  [1, 7],
  [3, 5],
];

describe('each op computes what the interpreter computes', () => {
  test('add and mul, with broadcasting of a parameter and of a last axis of 1', async () => {
    const model = holder({ row: parameter([8]) });
    using programs = await both(model, { x: specOf('float32', 'b', 's', 8), y: specOf('float32', 'b', 's', 1) }, ({ row }, { x, y }) => ({
      sum: ops.add({ a: x, b: row }),
      product: ops.mul({ a: x, b: y }),
    }));
    for (const [b, s] of sizes) await expectSame(programs, { x: float32([b, s, 8]), y: float32([b, s, 1], 2) }, { batch: b });
  });

  test('scalars, floor, log, sigmoid and cast', async () => {
    using programs = await both(nothing, { x: specOf('float32', 'b', 4), n: specOf('int64', 'b') }, (_, { x, n }) => {
      const positive = ops.addScalar({ x }, { value: 2 });
      return {
        floor: ops.floor({ x: ops.mulScalar({ x }, { value: 3.5 }) }),
        log: ops.log({ x: ops.divScalar({ x: positive }, { value: 3 }) }),
        sigmoid: ops.sigmoid({ x }),
        asFloat: ops.cast({ x: n }, { dtype: 'float32' }),
        next: ops.addScalar({ x: n }, { value: 1 }),
      };
    });
    await expectSame(programs, { x: float32([3, 4]), n: int64([3], [0, 5, -2]) });
  });

  test('gated activations', async () => {
    using programs = await both(nothing, { x: specOf('float32', 'b', 's', 12) }, (_, { x }) => ({
      silu: ops.siluAndMul({ x }),
      gelu: ops.geluTanhAndMul({ x }),
      swiglu: ops.swigluOaiAndMul({ x }, { alpha: 1.702, limit: 0.5 }),
    }));
    for (const [b, s] of sizes) await expectSame(programs, { x: float32([b, s, 12]) }, { batch: b });
  });

  test('reshape: dims that stay, one that is left over, two that come from an input', async () => {
    using programs = await both(nothing, { x: specOf('float32', 'b', 's', 12) }, (_, { x }) => {
      const flat = ops.reshape({ x }, { dims: [symbol('b').times(symbol('s')), 12] });
      return {
        heads: ops.reshape({ x }, { dims: [x.dim(0), x.dim(1), 3, 4] }),
        flat,
        back: ops.reshape({ x: flat }, { dims: [x.dim(0), x.dim(1), 12] }),
        rows: ops.reshape({ x }, { dims: [symbol('b').times(symbol('s')).times(3), 4] }),
        same: ops.reshape({ x }, { dims: [x.dim(0), x.dim(1), 12] }),
      };
    });
    for (const [b, s] of sizes) await expectSame(programs, { x: float32([b, s, 12]) }, { batch: b });
  });

  test('split, gatherRows, zerosLike', async () => {
    using programs = await both(nothing, { x: specOf('float32', 'b', 's', 6), rows: specOf('int64', 'n') }, (_, { x, rows }) => {
      const [a, b, c] = ops.split({ x }, { sizes: [1, 2, 3] });
      const [whole] = ops.split({ x }, { sizes: [6] });
      return {
        a,
        b,
        c,
        whole,
        picked: ops.gatherRows({ x, indices: rows }),
        zeros: ops.zerosLike({ x }),
        none: ops.zerosLike({ x: rows }),
      };
    });
    for (const [b, s] of sizes) await expectSame(programs, { x: float32([b, s, 6]), rows: int64([2], [b * s - 1, 0]) }, { batch: b });
  });

  test('rmsNorm with a weight, without one on heads, and addRmsNorm on two and three axes', async () => {
    const model = holder({ weight: parameter([16]) });
    using programs = await both(model, { x: specOf('float32', 'b', 's', 16), r: specOf('float32', 'b', 's', 16) }, (m, { x, r }) => {
      const weight = m.weight;
      const heads = ops.reshape({ x }, { dims: [x.dim(0), x.dim(1), 4, 4] });
      const flat = (y: SymbolicTensor) => ops.reshape({ x: y }, { dims: [symbol('b').times(symbol('s')), 16] });
      const deep = (y: SymbolicTensor) => ops.reshape({ x: y }, { dims: [y.dim(0), 1, y.dim(1), 16] });
      return {
        plain: ops.rmsNorm({ x, weight }, { epsilon: 1e-5 }),
        heads: ops.rmsNorm({ x: heads }, { epsilon: 1e-5 }),
        added: ops.addRmsNorm({ x, residual: r, weight }, { epsilon: 1e-5 }),
        flat: ops.addRmsNorm({ x: flat(x), residual: flat(r), weight }, { epsilon: 1e-5 }),
        deep: ops.addRmsNorm({ x: deep(x), residual: deep(r), weight }, { epsilon: 1e-5 }),
      };
    });
    for (const [b, s] of sizes) await expectSame(programs, { x: float32([b, s, 16]), r: float32([b, s, 16], 3) }, { batch: b });
  });

  test('layerNorm and gelu', async () => {
    const model = holder({ weight: parameter([12]), bias: parameter([12], 'float32', 7) });
    using programs = await both(model, { x: specOf('float32', 'b', 's', 12) }, (m, { x }) => {
      const [weight, bias] = [m.weight, m.bias] as const;
      return { norm: ops.layerNorm({ x, weight, bias }, { epsilon: 1e-5 }), gelu: ops.gelu({ x: ops.mulScalar({ x }, { value: 6 }) }) };
    });
    for (const [b, s] of sizes) await expectSame(programs, { x: float32([b, s, 12]) }, { batch: b, tolerance: 1e-5 });
  });

  test('permute, concat and slice', async () => {
    const inputs = { x: specOf('float32', 'b', 3, 4), y: specOf('float32', 'b', 2, 4), n: specOf('int64', 'b', 3) };
    using programs = await both(nothing, inputs, (_, { x, y, n }) => ({
      turned: ops.permute({ x }, { axes: [1, 2, 0] }),
      turnedIds: ops.permute({ x: n }, { axes: [1, 0] }),
      joined: ops.concat({ a: x, b: y }, { axis: 1 }),
      cut: ops.slice({ x }, { axis: 1, start: 1, end: 3 }),
      last: ops.slice({ x }, { axis: 2, start: 3, end: 4 }),
    }));
    for (const b of [1, 3])
      await expectSame(
        programs,
        { x: float32([b, 3, 4]), y: float32([b, 2, 4], 2), n: int64([b, 3], [...Array(3 * b).keys()]) },
        { batch: b },
      );
  });

  test('replaceRows, of all rows, of some, and with no row to take', async () => {
    const inputs = { x: specOf('float32', 'b', 's', 6), rows: specOf('float32', 'n', 6), indices: specOf('int64', 'b', 's') };
    using programs = await both(nothing, inputs, (_, tensors) => ({ y: ops.replaceRows(tensors) }));
    for (const [b, s] of sizes) {
      const indices = Array.from({ length: b * s }, (_, i) => (i % 3) - 1);
      await expectSame(programs, { x: float32([b, s, 6]), rows: float32([2, 6], 2), indices: int64([b, s], indices) }, { batch: b });
    }
    const step = { x: float32([1, 2, 6]), rows: float32([0, 6]), indices: int64([1, 2], [-1, -9]) };
    await expectSame(programs, step, { tolerance: 1e-12 });
  });

  test.each([
    [4, 8],
    [3, 6],
    [16, 88],
  ])('selfAttention, %i heads of %i', async (numHeads, headDim) => {
    const spec = specOf('float32', 'b', 5, numHeads * headDim);
    using programs = await both(nothing, { query: spec, key: spec, value: spec }, (_, tensors) => ({
      y: ops.selfAttention(tensors, { numHeads, headDim, scale: headDim ** -0.5 }),
    }));
    for (const b of [1, 3]) {
      const [query, key, value] = [1, 2, 3].map((seed) => float32([b, 5, numHeads * headDim], seed)) as [
        HostTensor,
        HostTensor,
        HostTensor,
      ];
      await expectSame(programs, { query, key, value }, { batch: b, tolerance: 1e-5 });
    }
  });

  test('rotaryEmbedding at absolute positions', async () => {
    const model = holder({ cos: parameter([32, 4], 'float32', 4), sin: parameter([32, 4], 'float32', 5) });
    using programs = await both(model, { x: specOf('float32', 'b', 's', 24), p: specOf('int64', 'b', 's') }, (m, { x, p }) => {
      const [cos, sin] = [m.cos, m.sin] as const;
      return {
        y: ops.rotaryEmbedding({ x, positions: p, cos, sin }, { numHeads: 3, headDim: 8 }),
        halves: ops.rotaryEmbedding({ x, positions: p, cos, sin }, { numHeads: 3, headDim: 8, interleaved: false }),
        part: ops.rotaryEmbedding({ x, positions: p, cos, sin }, { numHeads: 2, headDim: 12, rotaryDim: 8 }),
        halvesOfPart: ops.rotaryEmbedding({ x, positions: p, cos, sin }, { numHeads: 2, headDim: 12, rotaryDim: 8, interleaved: false }),
      };
    });
    for (const [b, s] of sizes) {
      const positions = Array.from({ length: b * s }, (_, i) => (i * 5 + 3) % 32);
      await expectSame(programs, { x: float32([b, s, 24]), p: int64([b, s], positions) }, { batch: b });
    }
  });
});

describe('weights are used in the form in which they are kept', () => {
  test.each([
    ['float32', 1e-5],
    ['bfloat16', 1e-5],
    ['float16', 1e-5],
    // Activations are rounded to 8 bits (accuracy level 4).
    ['int8b32', 0.02],
    ['int4b32', 0.02],
    ['int4b32o', 0.02],
  ] as const)('linear and a tied embedding in %s', async (format, tolerance) => {
    const weight = parameter([48, 64], format);
    const model = holder({ weight, bias: parameter([48], 'float32', 9) });
    using programs = await both(model, { ids: specOf('int64', 'b', 's') }, (m, { ids }) => {
      const [weight, bias] = [m.weight, m.bias] as const;
      const embedded = ops.embedding({ ids, weight });
      return { embedded, plain: ops.linear({ x: embedded, weight }), biased: ops.linear({ x: embedded, weight, bias }) };
    });
    for (const [b, s] of sizes) {
      const ids = Array.from({ length: b * s }, (_, i) => (i * 11 + 47) % 48);
      await expectSame(programs, { ids: int64([b, s], ids) }, { batch: b, tolerance });
    }
    const embedded = (await programs.actual.run({ firstSlot: 0, batch: 1, inputs: { ids: int64([1, 1], [47]) } }))['embedded']!;
    const row = weight.toFloat32().subarray(47 * 64);
    for (const [i, value] of row.entries()) expect(embedded.data[i]).toBeCloseTo(value, 6);
  });

  test.each(['int8b32', 'int4b32', 'int4b32o'] as const)(
    'what a graph gives back from %s, such as logits, is nearly exact',
    async (format) => {
      const model = holder({ weight: parameter([48, 64], format) });
      using programs = await both(model, { x: specOf('float32', 'b', 's', 64) }, (m, { x }) => ({
        y: ops.linear({ x, weight: m.weight }),
      }));
      for (const [b, s] of sizes) await expectSame(programs, { x: float32([b, s, 64]) }, { batch: b, tolerance: 1e-4 });
      await expectSame(programs, { x: { dtype: 'float32', dims: [1, 1, 64], data: new Float32Array(64) } }, { tolerance: 1e-6 });
    },
  );

  test('a computed weight works too', async () => {
    const model = holder({ weight: parameter([4, 8]) });
    using programs = await both(model, { x: specOf('float32', 'b', 8) }, (m, { x }) => ({
      y: ops.linear({ x, weight: ops.mulScalar({ x: m.weight }, { value: 2 }) }),
    }));
    await expectSame(programs, { x: float32([3, 8]) });
  });
});

describe('fusedMoe', () => {
  const tokens = (n: number) => float32([n, 64], n + 20);

  test.each([
    ['float32', 1, 1e-4],
    ['float32', 2, 1e-4],
    ['int8b32', 1, 0.03],
    ['int4b32', 1, 0.03],
    ['int4b32o', 1, 0.03],
    ['int4b32o', 2, 0.03],
    ['int8b32', 2, 0.03],
  ] as const)('%s experts, %i a token, most of them idle', async (format, topK, tolerance) => {
    const model = holder({ w13: parameter([6, 64, 64], format, 30), w2: parameter([6, 64, 32], format, 31) });
    using programs = await both(model, { x: specOf('float32', 'n', 64), logits: specOf('float32', 'n', 6) }, (m, { x, logits }) => {
      const [w13, w2] = [m.w13, m.w2] as const;
      return { y: ops.fusedMoe({ x, routerLogits: logits, w13, w2 }, { topK }) };
    });
    for (const n of [1, 2, 7, 64]) await expectSame(programs, { x: tokens(n), logits: float32([n, 6], n) }, { tolerance });
  });

  const clamped = { kind: 'swigluOai', alpha: 1.702, limit: 0.4 } as const;
  test.each([
    ['float32', 1, { routing: 'softmax' }, 1e-4],
    ['float32', 3, { routing: 'softmax' }, 1e-4],
    ['float32', 2, { routing: 'softmaxOfChosen', activation: clamped }, 1e-4],
    ['int8b32', 2, { routing: 'softmaxOfChosen', activation: clamped }, 0.03],
    ['int4b32', 2, { routing: 'softmaxOfChosen' }, 0.03],
    ['int4b32o', 1, { routing: 'softmax', activation: clamped }, 0.03],
  ] as const)('%s experts with biases, %i a token, %o', async (format, topK, options, tolerance) => {
    const [w13, w2] = [parameter([6, 64, 64], format, 30), parameter([6, 64, 32], format, 31)];
    const model = holder({ w13, w2, w13Bias: parameter([6, 64], 'float32', 32), w2Bias: parameter([6, 64], 'bfloat16', 33) });
    using programs = await both(model, { x: specOf('float32', 'n', 64), logits: specOf('float32', 'n', 6) }, (m, { x, logits }) => {
      const [w13, w2, w13Bias, w2Bias] = [m.w13, m.w2, m.w13Bias, m.w2Bias] as const;
      return { y: ops.fusedMoe({ x, routerLogits: logits, w13, w2, w13Bias, w2Bias }, { topK, ...options }) };
    });
    for (const n of [1, 2, 7, 64]) await expectSame(programs, { x: tokens(n), logits: float32([n, 6], n) }, { tolerance });
  });

  test('ties go to the lower expert', async () => {
    const model = holder({ w13: parameter([5, 8, 8], 'float32', 40), w2: parameter([5, 8, 4], 'float32', 41) });
    using programs = await both(model, { x: specOf('float32', 'n', 8), logits: specOf('float32', 'n', 5) }, (m, { x, logits }) => {
      const [w13, w2] = [m.w13, m.w2] as const;
      return {
        one: ops.fusedMoe({ x, routerLogits: logits, w13, w2 }, { topK: 1 }),
        three: ops.fusedMoe({ x, routerLogits: logits, w13, w2 }, { topK: 3 }),
        shares: ops.fusedMoe({ x, routerLogits: logits, w13, w2 }, { topK: 2, routing: 'softmax' }),
      };
    });
    const logits = { dtype: 'float32', dims: [3, 5], data: Float32Array.of(1, 1, 1, 1, 1, 0, 2, 2, 0, 2, -1, -1, 0, 0, 0) } as const;
    await expectSame(programs, { x: float32([3, 8]), logits });
  });

  test('one expert', async () => {
    const model = holder({ w13: parameter([1, 8, 8], 'float32', 50), w2: parameter([1, 8, 4], 'float32', 51) });
    using programs = await both(model, { x: specOf('float32', 'n', 8), logits: specOf('float32', 'n', 1) }, (m, { x, logits }) => {
      const [w13, w2] = [m.w13, m.w2] as const;
      return { y: ops.fusedMoe({ x, routerLogits: logits, w13, w2 }, { topK: 1 }) };
    });
    await expectSame(programs, { x: float32([3, 8]), logits: float32([3, 1]) });
  });
});
