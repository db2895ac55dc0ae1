import { expect, test } from 'vitest';
import { Lifecycle } from './lifecycle.ts';
import { type PatchedModel, PatchLedger, type PatchOptions } from './patch-ledger.ts';

const code = (name: string, more: object = {}) => expect.objectContaining({ code: name, ...more });
const refused = (problem: string) => code('GRAFT_PATCH_REFUSED', { what: expect.stringContaining(problem) });
const owner = { plugin: 'vendor', hook: 'Hpu.unify', phase: 'init' } as const;

class Attention {
  heads = 8;
  forward(x: number): number {
    return x;
  }
  async prefetch(): Promise<void> {}
}
class ChunkedAttention extends Attention {
  override forward(x: number): number {
    return x % 4;
  }
}
class BranchFree extends ChunkedAttention {
  override forward(x: number): number {
    return x + 1;
  }
}
class WithField extends ChunkedAttention {
  extra = 1;
}
function same(x: number): number {
  return x;
}
function next(x: number): number {
  return x + 1;
}
function countOf(...args: never[]): number {
  return args.length;
}
class Layer {
  attention: Attention = new ChunkedAttention();
  router = { name: 'router' };
}

/** A ledger with a hook open on a model that is one layer. */
function opened(more: Partial<PatchedModel> = {}, lifecycle = new Lifecycle()) {
  const layer = new Layer();
  const paths = new Map<object, string>([
    [layer, ''],
    [layer.attention, 'attention'],
    [layer.router, 'router'],
  ]);
  const model = { pathOf: (instance: object) => paths.get(instance) ?? null, ...more };
  const ledger = new PatchLedger(lifecycle);
  return { ledger, layer, model, attention: layer.attention, ...ledger.open(owner, model, 'one graph for all layers') };
}

test.each<[string, (given: ReturnType<typeof opened>) => void, string]>([
  ['an arrow function', ({ patches, attention }) => patches.replaceMethod(attention, 'forward', (x: number) => x), 'is an arrow function'],
  [
    'no instance',
    ({ patches }) => patches.replaceMethod(undefined as never, 'forward', Attention.prototype.forward),
    'target is undefined',
  ],
  ['no class', ({ patches, attention }) => patches.swapClass(attention, undefined as never), 'undefined is not a class'],
  [
    'a function for a class',
    ({ patches, attention }) => patches.swapClass(attention, (() => 1) as never),
    'an arrow function is not a class',
  ],
  ['no wrapper', ({ patches, layer }) => patches.wrapChild(layer, 'router', undefined as never), 'given undefined, not a function'],
  ['an unknown option', ({ patches, layer }) => patches.setField(layer, 'a', 1, { removWhen: '1' } as never), 'no option "removWhen"'],
])('a patch is refused with %s', (_what, patch, problem) => {
  const { ledger, ...given } = opened();
  expect(() => patch({ ledger, ...given })).toThrow(refused(problem));
  expect(ledger.toJSON()).toEqual([]);
});

test('the ledger undoes a swap, a lend, a replaced method and a wrapper, last in first out', () => {
  const { ledger, layer, attention, patches } = opened();
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
  const unknown = { upstream: null, removeWhen: null, readBy: null, read: null, coveredBy: null };
  const facts = { reason: 'one graph for all layers', ...unknown, ...owner };
  expect(ledger.toJSON()).toEqual([
    { ...facts, id: 1, operation: 'swapClass', target: 'ChunkedAttention', path: 'attention', detail: 'ChunkedAttention became Attention' },
    { ...facts, id: 2, operation: 'lend', target: 'Layer.gate', path: 'gate', detail: 'Object was lent' },
    { ...facts, id: 3, operation: 'replaceMethod', target: 'Attention.forward', path: 'attention.forward', detail: 'replaced by double' },
    {
      ...facts,
      id: 4,
      operation: 'wrapChild',
      target: 'Layer.router',
      path: 'router',
      detail: 'Object was wrapped in Object',
      reason: 'parity with upstream',
    },
  ]);
  ledger.undoTo(0);
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

test('an undo of patches that are not the last ones is refused, names the later patches and changes nothing', () => {
  const { ledger, layer, patches } = opened();
  patches.swapClass(layer.attention, Attention);
  patches.lend(layer, 'gate', {});
  expect(() => ledger.undo(new Set([1]))).toThrow(
    code('GRAFT_PATCH_ORDER', { what: expect.stringContaining('before patch 2 (lend of Layer.gate)') }),
  );
  expect([ledger.toJSON().length, layer.attention.constructor]).toEqual([2, Attention]);
  ledger.undo(new Set([1, 2]));
  expect([ledger.toJSON().length, layer.attention.constructor]).toEqual([0, ChunkedAttention]);
});

test('a patch that was changed again without the ledger cannot be undone', () => {
  const { ledger, layer, patches } = opened();
  patches.wrapChild(layer, 'router', (inner: object) => ({ inner }));
  layer.router = { name: 'mine' };
  expect(() => ledger.undoTo(0)).toThrow(code('GRAFT_PATCH_OVERWRITTEN'));
  expect(layer.router.name).toBe('mine');
});

test('nothing is undone at ready', () => {
  const lifecycle = new Lifecycle();
  const { ledger, layer, patches } = opened({}, lifecycle);
  patches.lend(layer, 'gate', {});
  for (const state of ['initialized', 'loaded', 'ready'] as const) lifecycle.advance(state);
  expect(() => ledger.undoTo(0)).toThrow(code('GRAFT_LIFECYCLE', { what: expect.stringContaining('ready') }));
});

test('a class is swapped for one that it extends or that extends it, and has no fields that were not initialised', () => {
  const { patches, attention } = opened();
  expect(() => patches.swapClass(attention, WithField)).toThrow(refused('WithField sets fields'));
  expect(() => patches.swapClass(attention, Layer)).toThrow(refused('neither Layer nor ChunkedAttention extends the other'));
  class Wider extends ChunkedAttention {
    override forward(x: number, ...[y]: [y?: number]): number {
      return x + (y ?? 0);
    }
  }
  class Narrow extends ChunkedAttention {
    override forward(): number {
      return 0;
    }
  }
  expect(() => patches.swapClass(attention, Narrow)).toThrow(refused('forward takes 1 parameters, and its replacement takes 0'));
  patches.swapClass(attention, Wider);
  patches.swapClass(attention, Attention);
  patches.swapClass(attention, BranchFree);
  expect(attention.forward(1)).toBe(2);
});

test('a field is set where its name is free, and the undo removes it', () => {
  const { ledger, patches, attention } = opened();
  patches.setField(attention, 'wasChunkedLocal', true);
  expect(Object.entries(attention)).toContainEqual(['wasChunkedLocal', true]);
  expect(ledger.toJSON()).toMatchObject([{ operation: 'setField', target: 'ChunkedAttention.wasChunkedLocal', detail: 'set to true' }]);
  expect(() => patches.setField(attention, 'wasChunkedLocal', false)).toThrow(refused('already has a "wasChunkedLocal"'));
  expect(() => patches.setField(attention, 'forward', 1)).toThrow(code('GRAFT_PATCH_REFUSED'));
  ledger.undoTo(0);
  expect('wasChunkedLocal' in attention).toBe(false);
});

test('a replacement must be able to stand in for the original', () => {
  const { ledger, patches, layer, attention } = opened();
  const replace = (name: string, method: unknown) => () => patches.replaceMethod(attention, name, method as never);
  expect(replace('forward', attention.forward.bind(attention))).toThrow(refused('bound'));
  expect(replace('foward', () => 0)).toThrow(refused('no method "foward"'));
  expect(replace('forward', 7)).toThrow(refused('it was given number, not a function'));
  expect(replace('forward', BranchFree)).toThrow(refused('BranchFree is a class'));
  expect(replace('forward', async (x: number) => x)).toThrow(
    refused('the method is of kind Function, and its replacement of kind AsyncFunction'),
  );
  expect(replace('prefetch', () => undefined)).toThrow(refused('the method is of kind AsyncFunction'));
  expect(replace('forward', (x: number, y: number) => x + y)).toThrow(refused('forward takes 1 parameters, and its replacement takes 2'));
  const wrap = (wrapper: unknown) => () => patches.wrapChild(layer, 'attention', () => wrapper as object);
  expect(() => patches.wrapChild(layer, 'mlp', (inner: object) => ({ inner }))).toThrow(refused('no child "mlp"'));
  expect(wrap(undefined)).toThrow(refused('undefined is not a module'));
  expect(wrap({ inner: attention })).toThrow(refused('Object lacks forward of ChunkedAttention'));
  expect(wrap({ forward: () => 0 })).toThrow(refused('forward takes 1 parameters, and its replacement takes 0'));
  const module = Object.assign(layer.attention, { *namedModules() {}, *namedParameters() {}, *namedBuffers() {} });
  expect(wrap({ forward: (x: number) => x })).toThrow(
    refused('Object lacks namedModules, namedParameters, namedBuffers of ChunkedAttention'),
  );
  for (const name of ['namedModules', 'namedParameters', 'namedBuffers']) Reflect.deleteProperty(module, name);
  expect(() => patches.lend(layer, 'attention', {})).toThrow(refused('Object lacks forward'));
  expect([ledger.toJSON().length, layer.attention, Object.keys(attention)]).toEqual([0, attention, ['heads']]);
  patches.replaceMethod(attention, 'forward', countOf);
  expect(ledger.toJSON().length).toBe(1);
});

test.each<[string, object]>([
  ['Attention.prototype belongs to every model of the process', Attention.prototype],
  ['Attention belongs to every model of the process', Attention],
  ['this Attention is not a module of the model', new Attention()],
])('no patch is made where %s', (problem, target) => {
  const { ledger, patches } = opened();
  const before = Object.getOwnPropertyDescriptors(target);
  const [prototype, { forward }] = [Object.getPrototypeOf(target), Attention.prototype];
  const made: (() => void)[] = [
    () => patches.replaceMethod(target, 'forward', same),
    () => patches.swapClass(target, ChunkedAttention),
    () => patches.lend(target, 'gate', { forward: () => 0 }),
    () => patches.wrapChild(target, 'heads', (inner) => inner),
    () => patches.setField(target, 'region', null),
  ];
  for (const patch of made) expect(patch).toThrow(refused(problem));
  expect([ledger.toJSON().length, Object.getOwnPropertyDescriptors(target), Object.getPrototypeOf(target)]).toEqual([0, before, prototype]);
  expect(Attention.prototype.forward).toBe(forward);
});

test('a patch that covers another plugin’s gives a warning, and the covered one names it', () => {
  const { ledger, layer, attention, model, patches, warnings } = opened();
  patches.replaceMethod(attention, 'forward', same);
  patches.lend(layer, 'gate', { forward: () => 0 });
  patches.lend(layer, 'gate', { forward: () => 1 });
  expect(warnings).toEqual([]); // one plugin may change its mind
  const other = ledger.open({ plugin: 'p2', hook: 'p2: hook', phase: 'init' }, model);
  other.patches.replaceMethod(attention, 'forward', next);
  other.patches.wrapChild(layer, 'gate', (inner: object) => ({ inner, forward: () => 2 })); // builds on what is there
  expect(other.warnings).toEqual([
    'patch 4 (replaceMethod of ChunkedAttention.forward) of plugin "p2" covers patch 1 (replaceMethod of ChunkedAttention.forward) of plugin "vendor" at attention.forward.',
  ]);
  const covered = () => ledger.toJSON().map(({ coveredBy }) => coveredBy);
  expect(covered()).toEqual([{ id: 4, plugin: 'p2' }, { id: 3, plugin: 'vendor' }, null, null, null]);
  ledger.undoTo(3);
  expect(covered()).toEqual([null, { id: 3, plugin: 'vendor' }, null]);
});

test('a patch links the change that upstream needs, and is refused once upstream has it', () => {
  const options: PatchOptions = { upstream: 'https://example.com/pull/7', removeWhen: '>=0.2.0' };
  const patched = (upstreamVersion: string | null, more: PatchOptions = {}) => {
    const { ledger, layer, patches } = opened({ upstreamVersion, graftVersion: '0.3.1' });
    patches.lend(layer, 'gate', {}, { ...options, ...more });
    return ledger.toJSON();
  };
  expect(patched('0.1.9')).toMatchObject([options]);
  expect(patched(null)).toHaveLength(1);
  expect(() => patched('0.2.1')).toThrow(
    code('GRAFT_PATCH_REFUSED', {
      what: expect.stringContaining('upstream is 0.2.1'),
      fix: 'remove the patch: https://example.com/pull/7.',
    }),
  );
  expect(patched('0.1.9', { removeWhen: 'graft >=0.4.0' })).toHaveLength(1);
  expect(() => patched('0.1.9', { removeWhen: 'graft >=0.3.0' })).toThrow(refused('Graft is 0.3.1'));
  expect(() => patched('0.1.9', { removeWhen: 'soon' })).toThrow(refused('removeWhen "soon" is not a semver range'));
});

test('after a capture each patch says whether forward read it', () => {
  const { ledger, layer, attention, patches } = opened();
  patches.swapClass(attention, Attention);
  patches.replaceMethod(attention, 'forward', same);
  patches.setField(attention, 'mark', true, { readBy: 'the runner' });
  patches.lend(layer, 'gate', {});
  ledger.markRead([null, 'forward', 'heads'].map((key) => ({ object: attention, key })));
  expect(ledger.toJSON().map(({ read, readBy }) => [read, readBy])).toEqual([
    [true, null],
    [true, null],
    [false, 'the runner'],
    [false, null],
  ]);
  ledger.markRead([{ object: layer, key: 'gate' }]); // another bucket
  expect(ledger.toJSON().map(({ read }) => read)).toEqual([true, true, false, true]);
});

test('states follow each other in order only', () => {
  const lifecycle = new Lifecycle();
  expect(() => lifecycle.advance('loaded', 'loadWeights')).toThrow(
    code('GRAFT_LIFECYCLE', { what: 'loadWeights was called on a model that is constructed; it needs one that is "initialized".' }),
  );
  lifecycle.fail('hook x could not be undone');
  expect(() => lifecycle.require('forward', 'ready')).toThrow(/failed \(hook x could not be undone\)/);
});
