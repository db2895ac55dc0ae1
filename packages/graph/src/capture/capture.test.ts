import { describe, expect, test } from 'vitest';
import type { Graph } from '../graph.ts';
import { Identity, ModuleList } from '../nn/containers.ts';
import { lendChild, Module } from '../nn/module.ts';
import { Parameter } from '../nn/parameter.ts';
import { RuntimeInput } from '../nn/runtime-input.ts';
import { ops } from '../ops/index.ts';
import { Dim } from '../shape.ts';
import type { Tensor } from '../tensor.ts';
import { type CapturedModel, captureModel } from './capture.ts';
import { checkGuard, type GuardFailure } from './guard.ts';

type Model = Module & { forward(x: Tensor): unknown };

const x = { dtype: 'float32', dims: [Dim.symbol('batch'), Dim.of(4)] } as const;

function capture(model: Model): CapturedModel {
  return captureModel(model, { inputs: { x }, call: (proxy, inputs) => ({ y: proxy.forward(inputs.x) }) });
}

/** The first guard of `model`'s capture that another model breaks. */
function difference(model: Model, other: Model): GuardFailure | undefined {
  return capture(model)
    .guards.map((guard) => checkGuard(guard, other))
    .find((failure) => failure !== null);
}

function opsOf({ nodes }: Graph): string[] {
  return nodes.map((node) => (node.kind === 'op' ? `${node.op.name} at ${node.path}` : `${node.region.name} at ${node.path}`));
}

class Scale extends Module {
  readonly weight: Parameter;
  bias: Parameter | null = null;
  factor: number;

  constructor(size = 4, factor = 2) {
    super();
    this.weight = new Parameter([size]);
    this.factor = factor;
  }

  forward(x: Tensor): Tensor {
    const y = ops.mulScalar({ x: ops.mul({ a: x, b: this.weight }) }, { value: this.factor });
    return this.bias === null ? y : ops.add({ a: y, b: this.bias });
  }
}

describe('forward runs unchanged', () => {
  test('the graph holds the ops, the weights by path and the place of each node', () => {
    class Outer extends Module {
      readonly inner = new Scale();
      forward(x: Tensor): Tensor {
        const y = this.inner.forward(x);
        return ops.sigmoid({ x: y });
      }
    }
    const { graph } = capture(new Outer());
    expect(opsOf(graph)).toEqual(['mul at inner', 'mulScalar at inner', 'sigmoid at ']);
    expect(graph.weights.map(({ path }) => path)).toEqual(['inner.weight']);
    expect(graph.outputs.map(({ name }) => name)).toEqual(['y']);
  });

  test('a weight that is read twice is one weight slot', () => {
    class Twice extends Module {
      readonly weight = new Parameter([4]);
      forward(x: Tensor): Tensor {
        return ops.add({ a: ops.mul({ a: x, b: this.weight }), b: this.weight });
      }
    }
    expect(capture(new Twice()).graph.weights).toHaveLength(1);
  });

  test('super, getters, this.constructor and instanceof work, and see the proxied fields', () => {
    class Base extends Module {
      static readonly steps: number = 1;
      readonly scale = new Scale();
      get chosen(): Scale {
        return this.scale;
      }
      forward(x: Tensor): Tensor {
        return this.chosen.forward(x);
      }
    }
    class Derived extends Base {
      static override readonly steps = 2;
      override forward(x: Tensor): Tensor {
        expect(this.scale).toBeInstanceOf(Scale);
        expect(this.constructor).toBe(Derived);
        let y = super.forward(x);
        for (let i = 0; i < (this.constructor as typeof Base).steps; i++) y = ops.floor({ x: y });
        return y;
      }
    }
    const { graph, guards } = capture(new Derived());
    expect(opsOf(graph)).toEqual(['mul at scale', 'mulScalar at scale', 'floor at ', 'floor at ']);
    expect(guards.some(({ path }) => path === 'chosen')).toBe(false);
  });

  test('loops over a ModuleList and its methods reach each item under its own path', () => {
    class Stack extends Module {
      readonly layers = new ModuleList([new Scale(), new Scale()]);
      forward(x: Tensor): Tensor {
        let y = x;
        for (const layer of this.layers) y = layer.forward(y);
        for (let i = 0; i < this.layers.length; i++) y = this.layers[i]!.forward(y);
        return [...this.layers].reduce((value, layer) => layer.forward(value), y);
      }
    }
    const { graph, guards } = capture(new Stack());
    expect(graph.weights.map(({ path }) => path)).toEqual(['layers.0.weight', 'layers.1.weight']);
    expect(opsOf(graph).filter((text) => text.startsWith('mul at'))).toEqual([0, 1, 0, 1, 0, 1].map((layer) => `mul at layers.${layer}`));
    expect(guards).toContainEqual(expect.objectContaining({ kind: 'constant', path: 'layers.length', expected: '2' }));
  });

  test('nested lists, records and nulls are outputs', () => {
    class Many extends Module {
      forward(x: Tensor): unknown {
        return { list: [x, null, ops.floor({ x })], none: null };
      }
    }
    const captured = captureModel(new Many(), { inputs: { x }, call: (model, inputs) => ({ out: model.forward(inputs.x) }) });
    expect(captured.graph.outputs.map(({ name }) => name)).toEqual(['out.list.0', 'out.list.2']);
  });

  test('frozen configs and lists of modules can be read', () => {
    class Frozen extends Module {
      readonly config = Object.freeze({ rope: Object.freeze({ factor: 3 }), sizes: Object.freeze([4, 5]) });
      readonly parts = Object.freeze([new Scale()]);
      forward(x: Tensor): Tensor {
        expect(Object.entries(this.config.rope)).toEqual([['factor', 3]]);
        expect(Array.isArray(this.config.sizes)).toBe(true);
        expect({ ...this.config.sizes }).toEqual({ 0: 4, 1: 5 });
        expect(Object.keys(this.config)).toEqual(['rope', 'sizes']);
        return ops.mulScalar({ x: this.parts[0]!.forward(x) }, { value: this.config.rope.factor });
      }
    }
    const { graph, guards } = capture(new Frozen());
    expect(graph.weights.map(({ path }) => path)).toEqual(['parts.0.weight']);
    expect(guards).toContainEqual(expect.objectContaining({ kind: 'constant', path: 'config.rope.factor', expected: '3' }));
  });

  test('a Map is read as it is and guarded by identity', () => {
    class WithMap extends Module {
      readonly table: Map<string, number>;
      constructor(table = new Map([['a', 2]])) {
        super();
        this.table = table;
      }
      forward(x: Tensor): Tensor {
        return ops.mulScalar({ x }, { value: this.table.get('a')! });
      }
    }
    const model = new WithMap();
    expect(difference(model, model)).toBeUndefined();
    expect(difference(model, new WithMap(model.table))).toBeUndefined();
    expect(difference(model, new WithMap())).toMatchObject({ kind: 'constant', path: 'table' });
  });
});

describe('a guard for everything that forward read', () => {
  test('equal modules satisfy each other', () => {
    expect(difference(new Scale(), new Scale())).toBeUndefined();
  });

  test('class', () => {
    class Other extends Scale {}
    expect(difference(new Scale(), new Other())).toEqual({ kind: 'class', path: '', expected: 'Scale', actual: 'Other' });
  });

  test('two classes of one name are told apart', () => {
    const make = (): typeof Scale => class Scale2 extends Scale {};
    expect(difference(new (make())(), new (make())())).toMatchObject({ kind: 'class', actual: 'another class of that name' });
  });

  test('constant', () => {
    expect(difference(new Scale(4, 2), new Scale(4, 3))).toEqual({ kind: 'constant', path: 'factor', expected: '2', actual: '3' });
  });

  test('null or not', () => {
    const biased = new Scale();
    biased.bias = new Parameter([4]);
    expect(difference(new Scale(), biased)).toEqual({ kind: 'null', path: 'bias', expected: 'null', actual: 'float32[4]' });
    expect(difference(biased, new Scale())).toEqual({ kind: 'tensor', path: 'bias', expected: 'float32[4]', actual: 'null' });
  });

  test('shape and storage format of a weight, not its values', () => {
    expect(difference(new Scale(4), new Scale(1))).toEqual({
      kind: 'tensor',
      path: 'weight',
      expected: 'float32[4]',
      actual: 'float32[1]',
    });
  });

  test('identity of a function as found on the prototype chain', () => {
    class Patched extends Module {
      act(x: Tensor): Tensor {
        return ops.floor({ x });
      }
      forward(x: Tensor): Tensor {
        return this.act(x);
      }
    }
    const patched = new Patched();
    Object.defineProperty(patched, 'act', {
      value: function act(x: Tensor): Tensor {
        return ops.sigmoid({ x });
      },
    });
    expect(difference(new Patched(), new Patched())).toBeUndefined();
    expect(difference(new Patched(), patched)).toMatchObject({ kind: 'function', path: 'act', actual: 'another function of that name' });
    expect(opsOf(capture(patched).graph)).toEqual(['sigmoid at ']);
  });

  test('length of a list', () => {
    class Stack extends Module {
      readonly layers: ModuleList<Scale>;
      constructor(count: number) {
        super();
        this.layers = new ModuleList(Array.from({ length: count }, () => new Scale()));
      }
      forward(x: Tensor): Tensor {
        return [...this.layers].reduce((y, layer) => layer.forward(y), x);
      }
    }
    expect(difference(new Stack(2), new Stack(3))).toEqual({ kind: 'constant', path: 'layers.length', expected: '2', actual: '3' });
  });

  test('keys of an object that is walked, and whether a field is there', () => {
    class Walker extends Module {
      readonly options: Record<string, number>;
      constructor(options: Record<string, number>) {
        super();
        this.options = options;
      }
      forward(x: Tensor): Tensor {
        const y = 'offset' in this.options ? ops.floor({ x }) : x;
        return Object.keys(this.options).reduce((value) => ops.sigmoid({ x: value }), y);
      }
    }
    expect(difference(new Walker({ a: 1 }), new Walker({ a: 9 }))).toBeUndefined();
    expect(difference(new Walker({ a: 1 }), new Walker({ a: 1, b: 2 }))).toMatchObject({ kind: 'keys', path: 'options', actual: 'a, b' });
    expect(difference(new Walker({ a: 1 }), new Walker({ offset: 1 }))).toMatchObject({ kind: 'null', path: 'options.offset' });
  });

  test('kind and fixed dimensions of a runtime input, never its rows', () => {
    class Cached extends Module {
      readonly cache: RuntimeInput;
      constructor(heads: number) {
        super();
        this.cache = new RuntimeInput('kvCache', 'float32', ['batch', heads, 'rows', 8]);
      }
      forward(_x: Tensor): Tensor {
        return ops.zerosLike({ x: this.cache });
      }
    }
    const captured = capture(new Cached(2));
    expect(captured.graph.runtimeInputs.map(({ path, kind, value }) => `${path} ${kind} ${value.dims.join(' ')}`)).toEqual([
      'cache kvCache batch 2 @ 8',
    ]);
    expect(difference(new Cached(2), new Cached(2))).toBeUndefined();
    expect(difference(new Cached(2), new Cached(3))).toMatchObject({ kind: 'runtime input', path: 'cache' });
  });

  test('only reads of forward are guarded', () => {
    class Extra extends Scale {
      readonly note: string;
      constructor(note: string) {
        super();
        this.note = note;
      }
    }
    expect(difference(new Extra('a'), new Extra('b'))).toBeUndefined();
  });

  test('a lent child looks like a registered one', () => {
    class Host extends Module {
      declare part: Module & { forward(x: Tensor): Tensor };
      forward(x: Tensor): Tensor {
        return this.part.forward(x);
      }
    }
    const registered = new Host();
    registered.part = new Scale();
    const lent = new Host();
    lendChild(lent, 'part', new Scale());
    expect([...lent.namedParameters()]).toEqual([]);
    expect(difference(registered, lent)).toBeUndefined();
    expect(difference(lent, registered)).toBeUndefined();
    const records = (model: Host) => capture(model).guards.map(({ kind, path, expected }) => ({ kind, path, expected }));
    expect(records(lent)).toEqual(records(registered));
    lendChild(lent, 'part', new Identity());
    expect(difference(registered, lent)).toMatchObject({ kind: 'class', path: 'part', actual: 'Identity' });
  });
});
