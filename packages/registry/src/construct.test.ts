import { GraftError } from '@graft/common';
import { expect, test } from 'vitest';
import { construct } from './construct.ts';

class Llama {
  readonly context: { layers: number };
  constructor(context: { layers: number }) {
    this.context = context;
  }
}

test('R5 a model override with neither constructor nor decorator gets its context, a factory’s class too', () => {
  class Mine extends Llama {}
  expect(construct(Mine, { layers: 2 }).context.layers).toBe(2);
  const factory = (Base: typeof Llama) => {
    class Faster extends Base {}
    return Faster;
  };
  expect(construct(factory(Mine), { layers: 3 }).context.layers).toBe(3);
});

test('a constructor that throws is named with its cause; an error of our own passes unchanged', () => {
  const cause = new RangeError('layers must be positive');
  class Broken extends Llama {
    constructor(context: { layers: number }) {
      super(context);
      throw cause;
    }
  }
  expect(() => construct(Broken, { layers: 0 })).toThrow(
    expect.objectContaining({ code: 'GRAFT_CONSTRUCTION_FAILED', where: 'class Broken', cause }),
  );
  const ours = new GraftError({ code: 'GRAFT_X', what: 'config' });
  class Refusing {
    constructor() {
      throw ours;
    }
  }
  expect(() => construct(Refusing, null)).toThrow(ours);
});
