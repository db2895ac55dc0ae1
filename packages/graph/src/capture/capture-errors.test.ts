import { GraftError } from '@graft/common';
import { describe, expect, test } from 'vitest';
import { Module } from '../nn/module.ts';
import { ops } from '../ops/index.ts';
import { Dim } from '../shape.ts';
import type { Tensor } from '../tensor.ts';
import { captureModel } from './capture.ts';

type Child = Module & { forward(x: Tensor): Tensor };

class Outer extends Module {
  readonly child: Child;
  constructor(child: Child) {
    super();
    this.child = child;
  }
  forward(x: Tensor): Tensor {
    return this.child.forward(x);
  }
}

class Layer extends Outer {
  static override readonly region = { name: 'layer', inputs: ['x'] };
}

/** The error of a capture whose model has this child in the second place, inside of a region or not. */
function errorOf(child: Child, region: boolean): { code: string; where: string | undefined } {
  const model = new Outer(region ? new Layer(child) : new Outer(child));
  try {
    captureModel(model, { inputs: { x: { dtype: 'float32', dims: [Dim.of(2)] } }, call: (m, { x }) => ({ y: m.forward(x) }) });
  } catch (error) {
    if (GraftError.is(error)) return { code: error.code, where: error.where };
    throw error;
  }
  throw new Error('the capture went through');
}

class PrivateField extends Module {
  #factor = 2;
  forward(x: Tensor): Tensor {
    return ops.mulScalar({ x }, { value: this.#factor });
  }
}

class PrivateMethod extends Module {
  forward(x: Tensor): Tensor {
    return this.#floor(x);
  }
  #floor(x: Tensor): Tensor {
    return ops.floor({ x });
  }
}

class PrivateAccessor extends Module {
  get #factor(): number {
    return 2;
  }
  forward(x: Tensor): Tensor {
    return ops.mulScalar({ x }, { value: this.#factor });
  }
}

class ArrowField extends Module {
  private readonly factor = 2;
  readonly forward = (x: Tensor): Tensor => ops.mulScalar({ x }, { value: this.factor });
}

class DestructuringArrow extends Module {
  forward(x: Tensor): Tensor {
    return this.act({ x });
  }
  readonly act = ({ x }: { x: Tensor }, { value } = { value: Math.max(1, Math.min(2, 3)) }): Tensor => ops.mulScalar({ x }, { value });
}

class BoundMethod extends Module {
  constructor() {
    super();
    this.forward = this.forward.bind(this);
  }
  forward(x: Tensor): Tensor {
    return ops.floor({ x });
  }
}

class Assigning extends Module {
  calls = 0;
  forward(x: Tensor): Tensor {
    this.calls += 1;
    return x;
  }
}

class Pushing extends Module {
  readonly seen: Tensor[] = [];
  forward(x: Tensor): Tensor {
    this.seen.push(x);
    return x;
  }
}

class Deleting extends Module {
  cached?: number = 1;
  forward(x: Tensor): Tensor {
    delete this.cached;
    return x;
  }
}

class Defining extends Module {
  forward(x: Tensor): Tensor {
    Object.defineProperty(this, 'seen', { value: x });
    return x;
  }
}

class Freezing extends Module {
  forward(x: Tensor): Tensor {
    Object.freeze(this);
    return x;
  }
}

class PrivateAfterChild extends Outer {
  #factor = 2;
  override forward(x: Tensor): Tensor {
    const y = super.forward(x);
    return ops.mulScalar({ x: y }, { value: this.#factor });
  }
}

class Floor extends Module {
  forward(x: Tensor): Tensor {
    return ops.floor({ x });
  }
}

describe.each([true, false])('code that a Proxy cannot see is an error with the full path (inside a region: %s)', (region) => {
  test.each<[string, Child, string, string]>([
    ['a #private field', new PrivateField(), 'GRAFT_CAPTURE_PRIVATE_FIELD', 'child.child'],
    ['a #private method', new PrivateMethod(), 'GRAFT_CAPTURE_PRIVATE_FIELD', 'child.child'],
    ['a #private accessor', new PrivateAccessor(), 'GRAFT_CAPTURE_PRIVATE_FIELD', 'child.child'],
    ['a #private field after a call of a child', new PrivateAfterChild(new Floor()), 'GRAFT_CAPTURE_PRIVATE_FIELD', 'child.child'],
    ['an arrow function as forward', new ArrowField(), 'GRAFT_CAPTURE_ARROW_FIELD', 'ArrowField.forward at child.child'],
    [
      'an arrow function with patterns and defaults',
      new DestructuringArrow(),
      'GRAFT_CAPTURE_ARROW_FIELD',
      'DestructuringArrow.act at child.child',
    ],
    ['a bound method', new BoundMethod(), 'GRAFT_CAPTURE_BOUND_METHOD', 'BoundMethod.forward at child.child'],
    ['an assignment', new Assigning(), 'GRAFT_CAPTURE_ASSIGNMENT', 'child.child.calls'],
    ['a push', new Pushing(), 'GRAFT_CAPTURE_ASSIGNMENT', 'child.child.seen.0'],
    ['a delete', new Deleting(), 'GRAFT_CAPTURE_ASSIGNMENT', 'child.child.cached'],
    ['a definition', new Defining(), 'GRAFT_CAPTURE_ASSIGNMENT', 'child.child.seen'],
    ['a freeze', new Freezing(), 'GRAFT_CAPTURE_ASSIGNMENT', 'child.child'],
  ])('%s', (_what, child, code, where) => {
    expect(errorOf(child, region)).toEqual({ code, where });
  });
});

class Throwing extends Module {
  forward(): Tensor {
    throw new Error('no');
  }
}

class Misspelt extends Module {
  forward(x: Tensor): Tensor {
    return (x as unknown as { nothing(): Tensor }).nothing();
  }
}

class Coercing extends Module {
  forward(x: Tensor): Tensor {
    return x.mul(Number(x));
  }
}
class Wrong extends Module {
  forward(x: Tensor): Tensor {
    return ops.reshape({ x }, { dims: [7, 7, 7] });
  }
}

class Forgetful extends Module {
  forward(x: Tensor): Tensor {
    return ops.floor({ x }) && (undefined as unknown as Tensor);
  }
}

class Late extends Module {
  forward(x: Tensor): Tensor {
    return this.rows(x) as unknown as Tensor;
  }
  async rows(x: Tensor): Promise<Tensor> {
    return x;
  }
}

class Counting extends Module {
  forward(x: Tensor): Tensor {
    return x.rank as unknown as Tensor;
  }
}

class InMethod extends Module {
  readonly child = new Floor();
  forward(x: Tensor): Tensor {
    return this.scaled(this.child.forward(x));
  }
  scaled(_x: Tensor): Tensor {
    throw new Error('no');
  }
}

describe.each([true, false])('a fault in forward is an error with the full path (inside a region: %s)', (region) => {
  test.each<[string, Child, string, string]>([
    ['an error that the model throws', new Throwing(), 'GRAFT_FORWARD_FAILED', 'child.child'],
    ['a TypeError', new Misspelt(), 'GRAFT_FORWARD_FAILED', 'child.child'],
    ['an error in another method', new InMethod(), 'GRAFT_FORWARD_FAILED', 'child.child'],
    ['no return', new Forgetful(), 'GRAFT_MODEL_OUTPUT', 'child.child.forward'],
    ['a method that is async', new Late(), 'GRAFT_MODEL_OUTPUT', 'child.child.rows'],
    ['a number', new Counting(), 'GRAFT_MODEL_OUTPUT', 'child.child.forward'],
    ['a tensor as a number', new Coercing(), 'GRAFT_TENSOR_COERCED', 'child.child (Coercing.forward)'],
    ['an op with wrong inputs', new Wrong(), 'GRAFT_OP_INPUT', 'op reshape, called by child.child (Wrong.forward)'],
  ])('%s', (_what, child, code, where) => {
    expect(errorOf(child, region)).toEqual({ code, where });
  });
});

test('after a failed capture nothing is captured any more', () => {
  expect(() => errorOf(new Assigning(), true)).not.toThrow();
  expect(() => ops.floor({ x: null as unknown as Tensor })).toThrow('outside of a capture');
});

test('an output of the model that is not a tensor is named', () => {
  const inputs = { x: { dtype: 'float32', dims: [Dim.of(2)] } } as const;
  const capture = (y: unknown) => captureModel(new Floor(), { inputs, call: () => ({ y }) });
  for (const y of [undefined, 3, [undefined]]) {
    const where = Array.isArray(y) ? 'output y.0' : 'output y';
    expect(() => capture(y)).toThrow(expect.objectContaining({ code: 'GRAFT_MODEL_OUTPUT', where }));
  }
  expect(() => capture([null])).not.toThrow();
});

test('an error in a method called after forward names that method', () => {
  const inputs = { x: { dtype: 'float32', dims: [Dim.of(2)] } } as const;
  const model = new Outer(new InMethod());
  const capture = () => captureModel(model, { inputs, call: (m, { x }) => ({ y: (m.child as InMethod).scaled(x) }) });
  expect(capture).toThrow(expect.objectContaining({ code: 'GRAFT_FORWARD_FAILED', where: 'child', what: 'InMethod.scaled threw: no' }));
});
