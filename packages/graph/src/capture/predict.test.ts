import { expect, test } from 'vitest';
import { Identity, ModuleList } from '../nn/containers.ts';
import { lendChild, Module } from '../nn/module.ts';
import { Parameter } from '../nn/parameter.ts';
import { ops } from '../ops/index.ts';
import { Dim } from '../shape.ts';
import type { Tensor } from '../tensor.ts';
import { type CapturedModel, captureModel } from './capture.ts';
import { CaptureCache } from './capture-cache.ts';
import { diffGuards } from './diff-guards.ts';
import { predict } from './predict.ts';

class Gate extends Module {
  readonly weight = new Parameter([4]);
  forward(x: Tensor): Tensor {
    return ops.mul({ a: x, b: this.weight });
  }
}

class Layer extends Module {
  static override readonly region = { name: 'layer', inputs: ['x', 'residual'] };
  readonly gate: (Module & { forward(x: Tensor): Tensor }) | null;
  readonly factor: number;

  constructor(gate: Layer['gate'] = new Gate(), factor = 2) {
    super();
    this.gate = gate;
    this.factor = factor;
  }

  forward(x: Tensor, residual: Tensor | null): Tensor {
    const gated = this.gate === null ? x : this.gate.forward(x);
    const scaled = ops.mulScalar({ x: gated }, { value: this.factor });
    return residual === null ? scaled : ops.add({ a: scaled, b: residual });
  }
}

class Head extends Module {
  static override readonly region = { name: 'head', inputs: ['x'] };
  forward(x: Tensor): Tensor {
    return ops.sigmoid({ x });
  }
}

class Model extends Module {
  readonly layers: ModuleList<Layer>;
  readonly head = new Head();
  constructor(...layers: Layer[]) {
    super();
    this.layers = new ModuleList(layers);
  }
  forward(x: Tensor): Tensor {
    let [y, residual]: [Tensor, Tensor | null] = [x, null];
    for (const layer of this.layers) [y, residual] = [layer.forward(y, residual), y];
    return this.head.forward(y);
  }
}

function captureAt(model: Model, rows: number | Dim, cache = new CaptureCache()): CapturedModel {
  const x = { dtype: 'float32', dims: [Dim.of(rows), Dim.of(4)] } as const;
  return captureModel(model, { inputs: { x }, call: (m, inputs) => ({ y: m.forward(inputs.x) }), cache });
}

const forecastOf = (model: Model, rows: number[]) =>
  predict(
    rows.map((size) => [`rows ${size}`, size] as const),
    (size, cache) => captureAt(model, size, cache),
  );

test('the forecast counts what captures of the same buckets count, bucket by bucket, and reads no weight', () => {
  const model = new Model(new Layer(), new Layer(), new Layer(null));
  const forecast = forecastOf(model, [1, 8, 16]);
  const cache = new CaptureCache();
  for (const rows of [1, 8, 16]) captureAt(model, rows, cache);
  expect(forecast.graphs).toBe(cache.count());
  expect(forecast.regions).toEqual([
    { region: 'layer', graphs: cache.count('layer') },
    { region: 'head', graphs: cache.count('head') },
  ]);
  // At each: a first layer without a residual, one like it with one, one without a gate.
  expect(forecast.buckets.map(({ bucket, regions }) => [bucket, regions.map(({ graphs }) => graphs)])).toEqual(
    [1, 8, 16].map((rows) => [`rows ${rows}`, [3, 1]]),
  );
});

test('it says of each further graph of a bucket which module needs it and why no other graph of that bucket serves', () => {
  const { buckets } = forecastOf(new Model(new Layer(), new Layer(), new Layer(null)), [1, 8]);
  for (const { regions } of buckets) {
    const reasons = regions[0]!.because.map(({ path, failures }) => [path, failures.map((failure) => failure.path)]);
    expect(reasons).toEqual([
      ['layers.1', ['residual']],
      ['layers.2', ['residual', 'gate']],
    ]);
    expect(regions[1]!.because).toEqual([]);
  }
});

test('a bucket of the same shape as an earlier one needs no capture', () => {
  const { graphs, buckets } = forecastOf(new Model(new Layer(), new Layer()), [8, 8]);
  expect(graphs).toBe(3);
  expect(buckets.map(({ regions }) => regions.map(({ graphs, captures }) => [graphs, captures]))).toEqual([
    [
      [2, 2],
      [1, 1],
    ],
    [
      [2, 0],
      [1, 0],
    ],
  ]);
});

test('two modules differ in every argument, class and constant that one of them reads, the outermost place only', () => {
  const captured = captureAt(new Model(new Layer(), new Layer(new Identity(), 3), new Layer(null)), 8);
  expect(diffGuards(captured, 'layers.0', 'layers.1')).toEqual([
    { kind: 'input', path: 'residual', expected: 'null', actual: 'float32[8, 4]' },
    { kind: 'class', path: 'gate', expected: 'Gate', actual: 'Identity' },
    { kind: 'constant', path: 'factor', expected: '2', actual: '3' },
  ]);
  expect(diffGuards(captured, 'layers.2', 'layers.1')).toEqual([
    { kind: 'null', path: 'gate', expected: 'null', actual: 'Identity' },
    { kind: 'constant', path: 'factor', expected: '2', actual: '3' },
  ]);
});

test('modules that share a graph differ in nothing, a lent child included', () => {
  const [owner, borrower, third] = [new Layer(), new Layer(null), new Layer()];
  lendChild(borrower, 'gate', owner.gate!);
  const captured = captureAt(new Model(third, owner, borrower), Dim.symbol('rows'));
  expect(diffGuards(captured, 'layers.1', 'layers.2')).toEqual([]);
  expect(captured.cache.count('layer')).toBe(2);
});

test('symbols stay apart whatever sizes are bound to them later: a graph for batch and sequence never serves batch and batch', () => {
  const cache = new CaptureCache();
  captureAt(new Model(new Layer()), Dim.symbol('batch'), cache);
  captureAt(new Model(new Layer()), Dim.symbol('sequence'), cache);
  expect(cache.count('layer')).toBe(2);
});

test('a path without a region, and two regions of different kinds, are refused by name', () => {
  const captured = captureAt(new Model(new Layer(), new Layer()), 8);
  const refusal = expect.objectContaining({ code: 'GRAFT_REGION_NOT_FOUND', fix: 'name two of layers.0 to head.' });
  expect(() => diffGuards(captured, 'layers.0', 'layers.9')).toThrow(refusal);
  expect(() => diffGuards(captured, 'layers.0', 'head')).toThrow(refusal);
});

test('a forward that branches on a size is counted as its captures are: a graph more where it takes the other branch, and a refusal where those refuse', () => {
  class Sized extends Module {
    static override readonly region = { name: 'sized', inputs: ['x'] };
    readonly first = new Gate();
    readonly second: Gate | null;
    constructor(second: Gate | null) {
      super();
      this.second = second;
    }
    /** `second` is read, and so guarded, where there is more than one row; an odd number of rows cannot be halved. */
    forward(x: Tensor): Tensor {
      const gated = this.first.forward(x);
      const rows = x.dim(0);
      if (rows.equals(1) || this.second === null) return gated;
      const halved = ops.reshape({ x: this.second.forward(gated) }, { dims: [2, rows.dividedBy(2), 4] });
      return ops.reshape({ x: halved }, { dims: [rows, 4] });
    }
  }
  class Pair extends Module {
    readonly layers = new ModuleList([new Sized(null), new Sized(new Gate())]);
  }
  const model = new Pair();
  const captureSized = (size: number, cache: CaptureCache): CapturedModel =>
    captureModel(model, {
      inputs: { x: { dtype: 'float32', dims: [Dim.of(size), Dim.of(4)] } },
      call: (m, { x }) => ({ y: [...m.layers].reduce((y: Tensor, layer) => layer.forward(y), x) }),
      cache,
    });
  const forecast = (sizes: number[]) =>
    predict(
      sizes.map((size) => [`rows ${size}`, size] as const),
      captureSized,
    );
  const cache = new CaptureCache();
  const counted = [1, 2, 8, 1].map((size) => {
    const before = cache.count();
    captureSized(size, cache);
    return cache.count() - before;
  });
  expect(counted).toEqual([1, 2, 2, 0]);
  const { buckets, graphs } = forecast([1, 2, 8, 1]);
  expect(buckets.map(({ regions }) => regions[0]!.captures)).toEqual(counted);
  expect(graphs).toBe(cache.count());
  expect(() => captureSized(3, new CaptureCache())).toThrow('Dimension 3 cannot be divided by 2.');
  expect(() => forecast([1, 3])).toThrow('Dimension 3 cannot be divided by 2.');
});
