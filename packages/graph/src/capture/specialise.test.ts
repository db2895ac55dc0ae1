import { expect, test } from 'vitest';
import type { OpNode } from '../graph.ts';
import { ModuleList } from '../nn/containers.ts';
import { Module } from '../nn/module.ts';
import { Parameter } from '../nn/parameter.ts';
import { RuntimeInput } from '../nn/runtime-input.ts';
import { ops } from '../ops/index.ts';
import { Dim } from '../shape.ts';
import type { Tensor } from '../tensor.ts';
import { verifyGraph } from '../verify-graph.ts';
import { type CapturedModel, captureModel } from './capture.ts';
import { CaptureCache } from './capture-cache.ts';

const frozen = () => new CaptureCache({ isFrozen: true });
const [batch, sequence] = [Dim.symbol('batch'), Dim.symbol('sequence')];
const x = { dtype: 'float32', dims: [batch, sequence, Dim.of(4)] } as const;
const inputs = { x } as const;

/** All that a capture leaves behind, in the model and in the cache. Regions are named in the graph and told of once. */
function all({ graph, guards, outputs, cache }: CapturedModel): unknown {
  const named = graph.nodes.map((node) => (node.kind === 'op' ? node : { ...node, region: node.region.name }));
  const entries = cache.regions().map((region) => [region, cache.list(region)]);
  return { graph: { ...graph, nodes: named }, guards, outputs, entries, recompiles: cache.recompiles };
}

/** Captures at each size with one frozen cache, and expects what an ordinary cache holds after captures at the same sizes. */
function expectSame(
  capture: (cache: CaptureCache, sizes: Record<string, number>) => CapturedModel,
  list: Record<string, number>[],
): CaptureCache {
  const caches = { specialised: frozen(), direct: new CaptureCache() };
  const events: Record<keyof typeof caches, unknown[]> = { specialised: [], direct: [] };
  for (const name of ['specialised', 'direct'] as const) {
    for (const event of ['graph:capture', 'graph:recompile'] as const)
      caches[name].events.on(event, (payload) => events[name].push([event, payload]));
  }
  for (const sizes of list) {
    const captured = capture(caches.specialised, sizes);
    expect(all(captured)).toEqual(all(capture(caches.direct, sizes)));
    verifyGraph(captured.graph);
    for (const region of captured.cache.regions()) for (const entry of captured.cache.list(region)) verifyGraph(entry.region.graph);
  }
  expect(events.specialised).toEqual(events.direct);
  return caches.specialised;
}

const shapes = [1, 2, 3].flatMap((batch) => [1, 2, 4].map((sequence) => ({ batch, sequence })));

let runs = 0;

class Mixer extends Module {
  static override readonly region = { name: 'mixer', inputs: ['x', 'parts'] };
  readonly weight = new Parameter([4]);
  readonly keyCache = new RuntimeInput('kvCache.key', 'float32', ['batch', 1, 'rows', 4]);
  readonly valueCache = new RuntimeInput('kvCache.value', 'float32', ['batch', 1, 'rows', 4]);
  readonly queryStart = new RuntimeInput('queryStart', 'int32', ['batch']);
  readonly sequenceLengths = new RuntimeInput('sequenceLengths', 'int32', ['batch']);
  readonly totalLength = new RuntimeInput('totalLength', 'int32', []);
  forward(x: Tensor, parts: (Tensor | null)[]): { mixed: Tensor; rest: Tensor[] } {
    runs++;
    const { keyCache, valueCache, queryStart, sequenceLengths, totalLength } = this;
    const cached = { keyCache, valueCache, queryStart, sequenceLengths, totalLength };
    const heads = { numHeads: 1, numKvHeads: 1, headDim: 4, scale: 0.5 };
    const mixed = ops.attention({ query: x, key: x, value: x, ...cached }, heads);
    const tokens = x.dim(0).times(x.dim(1));
    const flat = ops.mul({ a: ops.reshape({ x: mixed }, { dims: [tokens, 4] }), b: this.weight });
    const added = parts.reduce((sum: Tensor, part) => (part === null ? sum : ops.add({ a: sum, b: part })), flat);
    return { mixed: ops.reshape({ x: added }, { dims: x.dims.slice() }), rest: [flat] };
  }
}

class Stack extends Module {
  readonly layers = new ModuleList([new Mixer(), new Mixer(), new Mixer()]);
  /** Layers whose rest the model gives. */
  given: number[] = [];
  forward(x: Tensor): { x: Tensor; rests: Tensor[]; first: Tensor | null } {
    let rest: Tensor | null = null;
    const rests: Tensor[] = [];
    let i = 0;
    for (const layer of this.layers) {
      const { mixed, rest: rest0 } = layer.forward(x, [rest]) as { mixed: Tensor; rest: [Tensor] };
      [x, rest] = [ops.sigmoid({ x: mixed }), rest0[0]];
      if (this.given.includes(i++)) rests.push(rest);
    }
    return { x, rests, first: null };
  }
}

const captureStack = (model: Stack) => (cache: CaptureCache, sizes: Record<string, number>) =>
  captureModel(model, { inputs, call: runStack, batch, cache, sizes });
const runStack = (model: Stack, { x }: { x: Tensor }) => model.forward(x);

test('a frozen cache runs forward once for all sizes, and holds the same as captures at each of them', () => {
  const model = new Stack();
  const cache = frozen();
  runs = 0;
  for (const sizes of shapes) captureStack(model)(cache, sizes);
  expect(runs).toBe(2); // a mixer without parts and one with them
  expect(cache.count('mixer')).toBe(2 * shapes.length);
  expectSame(captureStack(model), [...shapes, ...shapes]);
});

test('a change outside of regions between two captures is seen, there and back', () => {
  const model = new Stack();
  const cache = frozen();
  const outputsWith = (given: number[]) => {
    model.given = given;
    return captureStack(model)(cache, { batch: 1, sequence: 2 }).graph.outputs.map(({ name }) => name);
  };
  expect(outputsWith([])).toEqual(['x']);
  expect(outputsWith([0, 2])).toEqual(['x', 'rests.0', 'rests.1']);
  expect(outputsWith([])).toEqual(['x']);
});

class Scale extends Module {
  static override readonly region = { name: 'scale', inputs: ['x'] };
  readonly weight = new Parameter([4]);
  forward(x: Tensor): Tensor {
    return ops.mul({ a: x, b: this.weight });
  }
}

test('two symbols of one number share a graph, and do not where the numbers differ', () => {
  class Two extends Module {
    readonly left = new Scale();
    readonly right = new Scale();
  }
  const model = new Two();
  const rows = (size: Dim) => ({ dtype: 'float32', dims: [size, Dim.of(4)] }) as const;
  const call = ({ left, right }: Two, given: { a: Tensor; b: Tensor }) => ({ a: left.forward(given.a), b: right.forward(given.b) });
  const capture = (cache: CaptureCache, sizes: Record<string, number>) =>
    captureModel(model, { inputs: { a: rows(batch), b: rows(sequence) }, call, cache, sizes });
  const cache = expectSame(capture, shapes);
  // One for each size: 1, 2, 3 as a batch, and 4 as a sequence.
  expect(cache.count('scale')).toBe(4);
});

test('a size of 1 stretches like the number that it is, and a symbol without a number stays one', () => {
  class Broadcast extends Module {
    forward(x: Tensor, y: Tensor): Tensor {
      return ops.add({ a: x, b: y });
    }
  }
  const one = Dim.of(1);
  const y = { dtype: 'float32', dims: [one, one, Dim.of(4)] } as const;
  const model = new Broadcast();
  const call = (m: Broadcast, given: { x: Tensor; y: Tensor }) => ({
    left: m.forward(given.x, given.y),
    right: m.forward(given.y, given.x),
  });
  expectSame((cache, sizes) => captureModel(model, { inputs: { x, y }, call, cache, sizes }), [...shapes, { batch: 1 }, { sequence: 5 }]);
});

test('a dimension among the outputs gets its number; a symbol of the model that has the name of a size does not', () => {
  class Sizes extends Module {
    forward(x: Tensor) {
      return { x: ops.sigmoid({ x }), given: { rows: [x.dim(0).times(x.dim(1)), batch] } };
    }
  }
  const model = new Sizes();
  const call = (m: Sizes, given: { x: Tensor }) => m.forward(given.x);
  const capture = (cache: CaptureCache, sizes: Record<string, number>) => captureModel(model, { inputs, call, cache, sizes });
  expectSame(capture, shapes);
  expect(JSON.stringify(capture(frozen(), { batch: 2, sequence: 3 }).outputs)).toMatch(/"coefficient":6,.*"batch"/);
});

const smaller = (dim: Dim): boolean => dim.equals(1);

test.each<[string, (x: Tensor) => boolean]>([
  ['whether it equals a number', (x) => smaller(x.dim(0))],
  ['whether a number equals it', (x) => Dim.of(1).equals(x.dim(0))],
  ['whether it equals another one', (x) => x.dim(0).equals(x.dim(1))],
  ['its value, if it has one', (x) => x.dim(0).isStatic && x.dim(0).value === 1],
  ['its text', (x) => `${x.dim(0)}` === '1'],
  ['its name', (x) => x.dim(0).symbolName === null && smaller(x.dim(0))],
  ['its value, whatever its symbols are', (x) => x.dim(0).evaluate(() => 7) === 1],
  [
    'the same under another name',
    (x) =>
      x
        .dim(0)
        .renamed(() => 'other')
        .equals(1),
  ],
  ['whether it can be halved', (x) => attempt(() => x.dim(0).dividedBy(2))],
])('a forward that asks of a dimension %s is captured at each size, in a region and outside', (_question, ask) => {
  class Asking extends Scale {
    static override readonly region = { name: 'asking', inputs: ['x'] };
    override forward(x: Tensor): Tensor {
      return ask(x) ? ops.sigmoid({ x }) : super.forward(x);
    }
  }
  class Inside extends Module {
    readonly layer = new Asking();
    forward(x: Tensor): Tensor {
      return this.layer.forward(x);
    }
  }
  class Outside extends Inside {
    override forward(x: Tensor): Tensor {
      return ask(x) ? ops.log({ x: super.forward(x) }) : super.forward(x);
    }
  }
  for (const model of [new Inside(), new Outside()]) {
    const call = (m: Inside, given: { x: Tensor }) => ({ y: m.forward(given.x) });
    const capture = (cache: CaptureCache, sizes: Record<string, number>) => captureModel(model, { inputs, call, cache, sizes });
    const cache = expectSame(capture, shapes);
    expect(new Set(cache.list('asking').map(({ region }) => (region.graph.nodes[0] as OpNode).op.name))).toEqual(
      new Set(['sigmoid', 'mul']),
    );
  }
});

function attempt(body: () => unknown): boolean {
  try {
    body();
    return true;
  } catch {
    return false;
  }
}

test('a dimension among the arguments of a region is looked up as its number', () => {
  class Sized extends Module {
    static override readonly region = { name: 'sized', inputs: ['x', 'rows'] };
    forward(x: Tensor, rows: Dim): Tensor {
      return ops.reshape({ x }, { dims: [rows, 4] });
    }
  }
  class Holder extends Module {
    readonly sized = new Sized();
  }
  const model = new Holder();
  const call = ({ sized }: Holder, given: { x: Tensor }) => ({ y: sized.forward(given.x, given.x.dim(0).times(given.x.dim(1))) });
  const cache = expectSame((cache, sizes) => captureModel(model, { inputs, call, cache, sizes }), shapes);
  expect(cache.list('sized')[1]!.inputs).toContainEqual({ name: 'rows', text: '2' });
});

test('a forward that runs only at numbers is captured at them, and says there why it cannot run', () => {
  class Halves extends Module {
    forward(x: Tensor): Tensor {
      return ops.slice({ x }, { axis: 1, start: 1, end: 3 });
    }
  }
  const model = new Halves();
  const call = (m: Halves, given: { x: Tensor }) => ({ y: m.forward(given.x) });
  const capture = (cache: CaptureCache, sizes: Record<string, number>) => captureModel(model, { inputs, call, cache, sizes });
  expectSame(
    capture,
    [3, 4].map((sequence) => ({ batch: 1, sequence })),
  );
  expect(() => capture(frozen(), { batch: 1, sequence: 2 })).toThrow('1 to 3 is not a part of axis 1 of [1, 2, 4].');
});

test('a full cache refuses the graphs of a further size, and a size is a whole number', () => {
  const model = new Stack();
  const cache = frozen();
  captureStack(model)(cache, { batch: 1, sequence: 2 });
  cache.onRecompile = 'fail';
  captureStack(model)(cache, { batch: 1, sequence: 2 });
  expect(() => captureStack(model)(cache, { batch: 1, sequence: 3 })).toThrow(
    expect.objectContaining({ code: 'GRAFT_RECOMPILE_REFUSED', what: expect.stringContaining('float32[1, 3, 4]') }),
  );
  expect(() => captureStack(model)(cache, { batch: 1, sequence: 1.5 })).toThrow('A dimension must be a whole number');
});

test('a cache that is not frozen runs forward each time, since a module may have been patched', () => {
  const model = new Stack();
  const cache = new CaptureCache();
  runs = 0;
  for (const sizes of shapes) captureStack(model)(cache, sizes);
  expect(runs).toBe(2 * shapes.length);
});
