import { describe, expect, test } from 'vitest';
import { RecompileRefusedError } from '../errors.ts';
import { Identity, ModuleList } from '../nn/containers.ts';
import { Module } from '../nn/module.ts';
import { Parameter } from '../nn/parameter.ts';
import { RuntimeInput } from '../nn/runtime-input.ts';
import { ops } from '../ops/index.ts';
import { Dim } from '../shape.ts';
import type { Tensor } from '../tensor.ts';
import { type CapturedModel, captureModel } from './capture.ts';
import { CaptureCache, type RecompileRecord } from './capture-cache.ts';

class Mlp extends Module {
  readonly weight: Parameter;
  constructor(size = 4) {
    super();
    this.weight = new Parameter([size, size]);
  }
  forward(x: Tensor): Tensor {
    return ops.linear({ x, weight: this.weight });
  }
}

class Layer extends Module {
  static override readonly region = { name: 'layer', inputs: ['hidden', 'residual'] };
  readonly mlp: Mlp | Identity;
  readonly rope: boolean;
  readonly cache: RuntimeInput;

  constructor({ mlp = new Mlp(), rope = true, heads = 2 }: { mlp?: Mlp | Identity; rope?: boolean; heads?: number } = {}) {
    super();
    this.mlp = mlp;
    this.rope = rope;
    this.cache = new RuntimeInput('kvCache', 'float32', ['batch', heads, 'rows', 8]);
  }

  forward(hidden: Tensor, residual: Tensor | null): [Tensor, Tensor] {
    const sum = residual === null ? hidden : ops.add({ a: hidden, b: residual });
    const y = this.rope ? ops.sigmoid({ x: sum }) : sum;
    ops.zerosLike({ x: this.cache });
    return [this.mlp.forward(y), sum];
  }
}

class Stack extends Module {
  readonly layers: ModuleList<Layer>;
  readonly zeroResidual: boolean;
  constructor(layers: Layer[], zeroResidual = true) {
    super();
    this.layers = new ModuleList(layers);
    this.zeroResidual = zeroResidual;
  }
  forward(x: Tensor): Tensor {
    let residual: Tensor | null = this.zeroResidual ? ops.zerosLike({ x }) : null;
    let hidden = x;
    for (const layer of this.layers) [hidden, residual] = layer.forward(hidden, residual);
    return residual === null ? hidden : ops.add({ a: hidden, b: residual });
  }
}

const symbols = [Dim.symbol('batch'), Dim.symbol('sequence'), Dim.of(4)];

function capture(model: Stack, cache = new CaptureCache(), dims: readonly Dim[] = symbols): CapturedModel {
  return captureModel(model, { inputs: { x: { dtype: 'float32', dims } }, call: (m, { x }) => ({ y: m.forward(x) }), cache });
}

/** The one failure of a record that has one. */
const only = ({ failures }: RecompileRecord) => failures.map(({ path, expected, actual }) => ({ path, expected, actual }));

describe('a region is captured once for all modules that its guards cannot tell apart', () => {
  test('equal layers share one graph, which the model calls by path', () => {
    const { graph, cache } = capture(new Stack([new Layer(), new Layer(), new Layer()]));
    expect(cache.count('layer')).toBe(1);
    expect(cache.recompiles).toEqual([]);
    const calls = graph.nodes.filter((node) => node.kind === 'region');
    expect(calls.map(({ path }) => path)).toEqual(['layers.0', 'layers.1', 'layers.2']);
    expect(new Set(calls.map(({ region }) => region)).size).toBe(1);
  });

  test('weights and runtime inputs stay in the region, under paths relative to its module', () => {
    const { graph, cache } = capture(new Stack([new Layer(), new Layer()]));
    expect([graph.weights, graph.runtimeInputs]).toEqual([[], []]);
    const region = cache.list('layer')[0]!.region.graph;
    expect(region.weights.map(({ path }) => path)).toEqual(['mlp.weight']);
    expect(region.runtimeInputs.map(({ path, value }) => `${path} ${value.dims.join(' ')}`)).toEqual(['cache batch 2 @ 8']);
  });

  test('a second capture with the same symbols captures nothing; other static sizes capture again', () => {
    const model = new Stack([new Layer()]);
    const { cache } = capture(model);
    capture(model, cache);
    expect(cache.count('layer')).toBe(1);
    capture(model, cache, [Dim.of(1), Dim.of(1), Dim.of(4)]);
    expect(cache.count('layer')).toBe(2);
    expect(only(cache.recompiles[0]!)).toEqual([{ path: 'hidden', expected: 'float32[batch, sequence, 4]', actual: 'float32[1, 1, 4]' }]);
  });

  test('batch and sequence are two symbols in a region, too', () => {
    const { cache } = capture(new Stack([new Layer()]));
    const { inputs } = cache.list('layer')[0]!.region.graph;
    expect(inputs[0]!.value.dims.map(String)).toEqual(['batch', 'sequence', '4']);
    expect(inputs[0]!.value.dims[0]!.equals(inputs[0]!.value.dims[1]!)).toBe(false);
  });
});

describe('unlike layers get a graph each, and a record says why', () => {
  test.each<[string, Layer, { path: string; expected: string; actual: string }]>([
    ['class', new Layer({ mlp: new Identity() }), { path: 'mlp', expected: 'Mlp', actual: 'Identity' }],
    ['constant', new Layer({ rope: false }), { path: 'rope', expected: 'true', actual: 'false' }],
    [
      'runtime input',
      new Layer({ heads: 3 }),
      { path: 'cache', expected: 'kvCache float32[batch, 2, rows, 8]', actual: 'kvCache float32[batch, 3, rows, 8]' },
    ],
  ])('%s', (_kind, other, failure) => {
    const { cache } = capture(new Stack([new Layer(), other, new Layer()]));
    expect(cache.count()).toBe(2);
    expect(cache.recompiles).toHaveLength(1);
    expect(cache.recompiles[0]).toMatchObject({ region: 'layer', path: 'layers.1' });
    expect(only(cache.recompiles[0]!)).toEqual([failure]);
  });

  test('a residual that is null only on the first layer costs a graph', () => {
    const { cache, graph } = capture(new Stack([new Layer(), new Layer(), new Layer()], false));
    expect(cache.count('layer')).toBe(2);
    expect(only(cache.recompiles[0]!)).toEqual([{ path: 'residual', expected: 'null', actual: 'float32[batch, sequence, 4]' }]);
    const calls = graph.nodes.filter((node) => node.kind === 'region');
    expect(calls.map(({ inputs }) => inputs.length)).toEqual([1, 2, 2]);
  });

  test('the record names each existing graph', () => {
    const layers = [new Layer(), new Layer({ rope: false }), new Layer({ rope: false, mlp: new Identity() })];
    const { cache } = capture(new Stack(layers));
    expect(cache.recompiles[1]!.failures.map(({ entry, path }) => `${entry}: ${path}`)).toEqual(['layer#0: rope', 'layer#1: mlp']);
  });

  test('events tell of each capture and each recompile', () => {
    const cache = new CaptureCache();
    const seen: string[] = [];
    cache.events.on('graph:capture', ({ region, path }) => seen.push(`capture ${region} ${path}`));
    cache.events.on('graph:recompile', ({ path }) => seen.push(`recompile ${path}`));
    capture(new Stack([new Layer(), new Layer(), new Layer({ rope: false })]), cache);
    expect(seen).toEqual(['capture layer layers.0', 'recompile layers.2', 'capture layer layers.2']);
  });
});

describe('a further graph can be refused', () => {
  test('onRecompile "fail" refuses it with what differs, and captures nothing', () => {
    const { cache } = capture(new Stack([new Layer()]));
    cache.onRecompile = 'fail';
    capture(new Stack([new Layer(), new Layer()]), cache);
    const unlike = new Stack([new Layer(), new Layer({ rope: false })]);
    expect(() => capture(unlike, cache)).toThrow(RecompileRefusedError);
    expect(() => capture(unlike, cache)).toThrow('rope is false, expected true');
    expect(() => capture(unlike, cache)).toThrow('where: layers.1');
    expect(cache.count()).toBe(1);
  });

  test('once onRecompile is set, the first graph of a region is a recompile too: counted by "allow" and "warn", refused by "fail"', () => {
    class Extra extends Module {
      static override readonly region = { name: 'extra', inputs: ['x'] };
      forward(x: Tensor): Tensor {
        return ops.floor({ x });
      }
    }
    class Host extends Module {
      readonly extra = new Extra();
    }
    const extra = (cache: CaptureCache) =>
      captureModel(new Host(), {
        inputs: { x: { dtype: 'float32', dims: symbols } },
        cache,
        call: (host, { x }) => ({ y: host.extra.forward(x) }),
      });
    for (const policy of ['allow', 'warn'] as const) {
      const { cache } = capture(new Stack([new Layer()]));
      cache.onRecompile = policy;
      extra(cache);
      const failure = { kind: 'class', path: '', expected: 'a module of a captured region: layer', actual: 'Extra', entry: 'extra' };
      expect(cache.recompiles).toEqual([{ region: 'extra', path: 'extra', failures: [failure] }]);
    }
    const { cache } = capture(new Stack([new Layer()]));
    cache.onRecompile = 'fail';
    expect(() => extra(cache)).toThrow(
      'Region "extra" needs a graph and has none: it is Extra, expected a module of a captured region: layer.',
    );
    expect([cache.count(), cache.recompiles.length]).toEqual([1, 0]);
    expect(extra(new CaptureCache()).cache.recompiles).toEqual([]);
  });

  test('the limit is refused by name', () => {
    const cache = new CaptureCache({ limit: 2 });
    const layers = [new Layer(), new Layer({ rope: false }), new Layer({ heads: 5 })];
    expect(() => capture(new Stack(layers), cache)).toThrow('Region "layer" has 2 graphs, the limit.');
    expect(cache.count('layer')).toBe(2);
  });
});

describe('inputs and outputs of a region', () => {
  class Bundle extends Module {
    static override readonly region = { name: 'bundle', inputs: ['parts', 'options'] };
    forward(parts: { list: Tensor[]; none: null }, options: { size: Dim; mode: string | null; factor: number }): unknown {
      const [first, second] = parts.list as [Tensor, Tensor];
      const x = ops.mulScalar({ x: ops.reshape({ x: first }, { dims: [options.size, 4] }) }, { value: options.factor });
      return { sum: ops.add({ a: x, b: second }), rest: [null, first], size: options.size, mode: options.mode };
    }
  }
  class Host extends Module {
    readonly bundle = new Bundle();
  }
  const rows = Dim.symbol('rows');
  const inputs = { a: { dtype: 'float32', dims: [rows, Dim.of(4)] }, b: { dtype: 'float32', dims: [rows, Dim.of(4)] } } as const;
  const run = (cache: CaptureCache, options: { size: Dim; mode: string | null; factor: number }): Record<string, unknown> => {
    let result: unknown;
    captureModel(new Host(), {
      inputs,
      cache,
      call: (host, { a, b }) => {
        const { mode, ...out } = host.bundle.forward({ list: [a, b], none: null }, options) as Record<string, unknown>;
        result = { ...out, mode };
        return { out };
      },
    });
    return result as Record<string, unknown>;
  };

  test('lists, records, nulls and dimensions come through as they are', () => {
    const cache = new CaptureCache();
    const first = run(cache, { size: rows, mode: null, factor: 2 });
    const second = run(cache, { size: rows, mode: null, factor: 2 });
    for (const result of [first, second]) {
      expect(result['size']).toBe(rows);
      expect(result['mode']).toBeNull();
      expect((result['sum'] as Tensor).dims.map(String)).toEqual(['rows', '4']);
      expect(result['rest']).toMatchObject([null, { dtype: 'float32' }]);
    }
    expect(cache.count()).toBe(1);
    expect(cache.list('bundle')[0]!.inputs.map(({ name, text }) => `${name}: ${text}`)).toEqual([
      'parts.list.length: 2',
      'parts.list.0: float32[rows, 4]',
      'parts.list.1: float32[rows, 4]',
      'parts.none: null',
      'options.size: rows',
      'options.mode: null',
      'options.factor: 2',
    ]);
  });

  test.each<[string, { size: Dim; mode: string | null; factor: number }]>([
    ['a number', { size: rows, mode: null, factor: 3 }],
    ['the text "null" for null', { size: rows, mode: 'null', factor: 2 }],
  ])('another value of %s is another graph', (_what, options) => {
    const cache = new CaptureCache();
    run(cache, { size: rows, mode: null, factor: 2 });
    run(cache, options);
    expect(cache.count()).toBe(2);
  });

  test('a tensor of the caller that a region reaches around its arguments is an error', () => {
    class Leaky extends Module {
      static override readonly region = { name: 'leaky', inputs: [] };
      readonly box: { x: Tensor | null };
      constructor(box: { x: Tensor | null }) {
        super();
        this.box = box;
      }
      forward(): Tensor {
        return ops.floor({ x: this.box.x! });
      }
    }
    const box = { x: null as Tensor | null };
    expect(() =>
      captureModel(new Leaky(box), {
        inputs: { x: inputs.a },
        call: (model, { x }) => {
          box.x = x;
          return { y: model.forward() };
        },
      }),
    ).toThrow('pass it as an argument of forward');
  });
});
