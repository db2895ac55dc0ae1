import { expect, test } from 'vitest';
import { Lifecycle } from './lifecycle.ts';
import { PatchLedger } from './patch-ledger.ts';

const code = (name: string, more: object = {}) => expect.objectContaining({ code: name, ...more });
const owner = { plugin: 'vendor', hook: 'Hpu.unify', phase: 'init' } as const;

class Attention {
  heads = 8;
  forward(x: number): number {
    return x;
  }
}
class ChunkedAttention extends Attention {
  override forward(x: number): number {
    return x % 4;
  }
}
class BranchFree extends Attention {
  override forward(x: number): number {
    return x + 1;
  }
}
class WithField extends Attention {
  extra = 1;
}
class Layer {
  attention: Attention = new ChunkedAttention();
  router = { name: 'router' };
}

test('R15 the ledger undoes a swap, a lend, a replaced method and a wrapper, last in first out', () => {
  const ledger = new PatchLedger();
  const { patches } = ledger.open(owner, 'one graph for all layers');
  const layer = new Layer();
  const { attention } = layer;
  patches.swapClass(attention, Attention);
  patches.lend(layer, 'gate', { forward: () => 0 });
  patches.replaceMethod(attention, 'forward', function double(this: Attention, x: number) {
    return x * this.heads;
  });
  patches.wrapChild(layer, 'router', (inner: object) => ({ inner }), { reason: 'parity with upstream' });
  expect([layer.attention.constructor.name, layer.attention.forward(5), Object.keys(layer)]).toEqual([
    'Attention',
    40,
    ['attention', 'router'],
  ]);
  expect(layer).toMatchObject({ gate: {}, router: { inner: { name: 'router' } } });
  expect(ledger.toJSON()).toEqual([
    {
      id: 1,
      operation: 'swapClass',
      target: 'ChunkedAttention',
      detail: 'ChunkedAttention became Attention',
      reason: 'one graph for all layers',
      path: null,
      ...owner,
    },
    { id: 2, operation: 'lend', target: 'Layer.gate', detail: 'Object was lent', reason: 'one graph for all layers', path: null, ...owner },
    {
      id: 3,
      operation: 'replaceMethod',
      target: 'Attention.forward',
      detail: 'replaced by double',
      reason: 'one graph for all layers',
      path: null,
      ...owner,
    },
    {
      id: 4,
      operation: 'wrapChild',
      target: 'Layer.router',
      detail: 'Object was wrapped in Object',
      reason: 'parity with upstream',
      path: null,
      ...owner,
    },
  ]);
  for (const id of [4, 3, 2, 1]) ledger.undo(id);
  expect(layer.attention).toBe(attention);
  expect([attention.constructor, attention.forward(5), 'gate' in layer, layer.router]).toEqual([
    ChunkedAttention,
    1,
    false,
    { name: 'router' },
  ]);
  expect(Object.keys(attention)).toEqual(['heads']);
  expect(ledger.toJSON()).toEqual([]);
});

test('R15 an undo out of order is refused and names the later patches', () => {
  const ledger = new PatchLedger();
  const { patches } = ledger.open(owner);
  const layer = new Layer();
  patches.swapClass(layer.attention, Attention);
  patches.lend(layer, 'gate', {});
  expect(() => ledger.undo(1)).toThrow(code('GRAFT_PATCH_ORDER', { what: expect.stringContaining('before patch 2 (lend of Layer.gate)') }));
  expect(() => ledger.undo(9)).toThrow(code('GRAFT_PATCH_REFUSED'));
});

test('a patch that was changed again without the ledger cannot be undone', () => {
  const ledger = new PatchLedger();
  const layer = new Layer();
  ledger.open(owner).patches.wrapChild(layer, 'router', (inner: object) => ({ inner }));
  layer.router = { name: 'mine' };
  expect(() => ledger.undoTo(0)).toThrow(code('GRAFT_PATCH_OVERWRITTEN'));
  expect(layer.router.name).toBe('mine');
});

test('R15 a class that declares fields cannot be swapped in, unless the instance has them already', () => {
  const { patches } = new PatchLedger().open(owner);
  const attention = new ChunkedAttention();
  expect(() => patches.swapClass(attention, WithField)).toThrow(
    code('GRAFT_PATCH_REFUSED', { what: expect.stringContaining('WithField sets fields') }),
  );
  patches.swapClass(attention, BranchFree);
  expect(attention.forward(1)).toBe(2);
});

test('a field is set where there is none, and its undo leaves none', () => {
  const ledger = new PatchLedger();
  const { patches } = ledger.open(owner);
  const layer = new Layer();
  patches.setField(layer.attention, 'wasChunkedLocal', true);
  expect(Object.entries(layer.attention)).toContainEqual(['wasChunkedLocal', true]);
  expect(ledger.toJSON()).toMatchObject([{ operation: 'setField', target: 'ChunkedAttention.wasChunkedLocal', detail: 'set to true' }]);
  expect(() => patches.setField(layer.attention, 'wasChunkedLocal', false)).toThrow(
    code('GRAFT_PATCH_REFUSED', { what: expect.stringContaining('has a "wasChunkedLocal" already') }),
  );
  expect(() => patches.setField(layer.attention, 'forward', 1)).toThrow(code('GRAFT_PATCH_REFUSED'));
  ledger.undoTo(0);
  expect('wasChunkedLocal' in layer.attention).toBe(false);
});

test('a bound function, a missing method and a missing child are refused', () => {
  const { patches } = new PatchLedger().open(owner);
  const layer = new Layer();
  expect(() => patches.replaceMethod(layer.attention, 'forward', layer.attention.forward.bind(layer.attention))).toThrow(
    code('GRAFT_PATCH_REFUSED', { what: expect.stringContaining('bound') }),
  );
  expect(() => patches.replaceMethod(layer.attention, 'foward', () => 0)).toThrow(
    code('GRAFT_PATCH_REFUSED', { what: expect.stringContaining('no method "foward"') }),
  );
  expect(() => patches.wrapChild(layer, 'mlp', (inner: object) => ({ inner }))).toThrow(
    code('GRAFT_PATCH_REFUSED', { what: expect.stringContaining('no child "mlp"') }),
  );
});

test('R15 nothing is undone at ready', () => {
  const lifecycle = new Lifecycle();
  const ledger = new PatchLedger(lifecycle);
  const layer = new Layer();
  ledger.open(owner).patches.lend(layer, 'gate', {});
  for (const state of ['initialized', 'loaded', 'ready'] as const) lifecycle.advance(state);
  expect(() => ledger.undo(1)).toThrow(code('GRAFT_LIFECYCLE', { what: expect.stringContaining('ready') }));
});

test('states follow each other in order only', () => {
  const lifecycle = new Lifecycle();
  expect(() => lifecycle.advance('loaded', 'loadWeights')).toThrow(
    code('GRAFT_LIFECYCLE', { what: 'loadWeights was called on a model that is constructed; it needs one that is "initialized".' }),
  );
  lifecycle.fail('hook x could not be undone');
  expect(() => lifecycle.require('forward', 'ready')).toThrow(/failed \(hook x could not be undone\)/);
});
