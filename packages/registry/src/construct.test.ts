import { GraftError } from '@graft/common';
import { expect, test } from 'vitest';
import { construct } from './construct.ts';

class Llama {
  readonly context: { layers: number };
  constructor(context: { layers: number }) {
    this.context = context;
  }
}

test('an override with neither constructor nor decorator gets its context', () => {
  class Mine extends Llama {}
  expect(construct(Mine, { layers: 2 }).context.layers).toBe(2);
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
