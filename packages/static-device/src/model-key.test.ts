import { Buffer, type CompileOptions, lendChild, Module, ops, Parameter, RuntimeInput, type Tensor } from '@graft/graph';
import { describe, expect, test } from 'vitest';
import { type KeyParts, modelKey } from './model-key.ts';

const bindRuntimeInput: CompileOptions['bindRuntimeInput'] = () => ({ kind: 'cache', rows: 8 });
const parts: KeyParts = { bindRuntimeInput, kvSlots: 2, mode: 'compile', codeIdentity: '', lowerings: [], runtime: '1.0.0' };

class Norm extends Module {
  readonly weight = new Parameter([4]);
  readonly mask = new Buffer([1], Float32Array.of(1));
  forward(x: Tensor): Tensor {
    return ops.mul({ a: x, b: this.weight });
  }
}

class Model extends Module {
  readonly norm: Module;
  readonly other = new Module();
  readonly sizes: readonly number[] = [1, 2];
  factor: number | null = 2;
  readonly cache = new RuntimeInput('kvCache.key', 'float32', ['batch', 2, 'rows', 4]);
  constructor(norm: Module = new Norm()) {
    super();
    this.norm = norm;
    lendChild(this.other, 'norm', norm);
  }
}

const keyOf = (change: (model: Model) => void = () => undefined, more: Partial<KeyParts> = {}, model = new Model()): string => {
  change(model);
  return modelKey(model, { ...parts, ...more });
};
const plain = keyOf();

test('models that are built alike have one key, whatever values their weights have', () => {
  expect(keyOf()).toBe(plain);
  expect(
    keyOf((model) => {
      (model.norm as Norm).mask.toFloat32()[0] = 0;
    }),
  ).toBe(plain);
  expect(plain).toMatch(/^[0-9a-f]{40}$/);
});

describe('another key for', () => {
  const fields = (model: Model) => model as unknown as Record<string, unknown> & { norm: Record<string, unknown>; other: object };
  const changes: [string, (model: Model) => void][] = [
    ['a field of another value', (model) => void (model.factor = 3)],
    ['a field that is null', (model) => void (model.factor = null)],
    ['a number in a list', (model) => void (fields(model)['sizes'] = [1, 3])],
    ['one more field', (model) => void (fields(model)['more'] = 0)],
    ["a parameter's shape", (model) => void (fields(model).norm['weight'] = new Parameter([5]))],
    ["a buffer's shape", (model) => void (fields(model).norm['mask'] = new Buffer([1, 1], Float32Array.of(1)))],
    ['a lent child that is another module', (model) => lendChild(fields(model).other as Module, 'norm', new Norm())],
    [
      'a method of the instance',
      (model) =>
        void (fields(model).norm['forward'] = function forward(x: Tensor) {
          return x;
        }),
    ],
    [
      'a slot of another shape',
      (model) => void (fields(model)['cache'] = new RuntimeInput('kvCache.key', 'float32', ['batch', 4, 'rows', 4])),
    ],
  ];
  test.each(changes)('%s', (_, change) => expect(keyOf(change)).not.toBe(plain));

  test('a class with another text, also where only its base differs', () => {
    class Shifted extends Module {
      readonly weight = new Parameter([4]);
      readonly mask = new Buffer([1], Float32Array.of(1));
      forward(x: Tensor): Tensor {
        return ops.add({ a: x, b: this.weight });
      }
    }
    const derived = (Base: typeof Norm | typeof Shifted) => {
      class Derived extends (Base as typeof Norm) {}
      return keyOf(undefined, {}, new Model(new Derived()));
    };
    expect(keyOf(undefined, {}, new Model(new Shifted()))).not.toBe(plain);
    expect(derived(Norm)).not.toBe(derived(Shifted));
    expect(derived(Norm)).toBe(derived(Norm));
  });

  test('a method that was replaced on the prototype', () => {
    class Patched extends Module {
      readonly weight = new Parameter([4]);
      forward(x: Tensor): Tensor {
        return x;
      }
    }
    const before = keyOf(undefined, {}, new Model(new Patched()));
    Patched.prototype.forward = function forward(x: Tensor): Tensor {
      return ops.floor({ x });
    };
    expect(keyOf(undefined, {}, new Model(new Patched()))).not.toBe(before);
  });

  test.each<[string, Partial<KeyParts>]>([
    ['rows of a cache', { bindRuntimeInput: () => ({ kind: 'cache', rows: 9 }) }],
    ['kvSlots', { kvSlots: 3 }],
    ['the mode', { mode: 'lazy' }],
    ["the runtime's version", { runtime: '1.0.1' }],
    ['code outside of the model', { codeIdentity: 'plugin 2' }],
    ['a lowering of a plugin', { lowerings: [{ op: ops.floor, platform: 'static', lower: () => ['x'] }] }],
  ])('%s', (_, more) => expect(keyOf(undefined, more)).not.toBe(plain));
});

test('a slot that nothing is bound to does not stop it: no graph may read it', () => {
  const unbound = keyOf(undefined, {
    bindRuntimeInput: () => {
      throw new Error('no group');
    },
  });
  expect(unbound).not.toBe(plain);
});
