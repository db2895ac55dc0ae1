// A reload of weights, as the hook runner carries it: which hooks run again, what is undone, and that nothing changes when it fails.
import { expect, test } from 'vitest';
import { HookRunner, type HookTarget, type LoadedHook } from './hook-runner.ts';
import type { BufferFacts, InspectableModel, ParameterFacts } from './model.ts';
import type { Patches } from './patch-ledger.ts';

const target: HookTarget = { architecture: 'Tiny', platform: 'hpu', mode: 'compile', chain: [] };

interface Weight extends ParameterFacts {
  value: number;
}

/** Two layers of one weight each; a weight under a wrapper is named `layer.inner.w`. */
class Tiny implements InspectableModel {
  a: Layer = { w: { dtype: 'float32', shape: [2], value: 1 } };
  b: Layer = { w: { dtype: 'float32', shape: [3], value: 1 } };
  rope: BufferFacts = { dtype: 'float32', shape: [4], persistent: false };
  scale = 0;
  log: string[] = [];
  *namedParameters(): Iterable<[string, Weight]> {
    for (const name of ['a', 'b'] as const) {
      let [path, layer] = [name as string, this[name]];
      for (; 'inner' in layer; layer = layer.inner) path += '.inner';
      yield [`${path}.w`, layer.w];
    }
  }
  *namedBuffers(): Iterable<[string, BufferFacts]> {
    yield ['rope', this.rope];
  }
}

type Layer = { w: Weight } | { inner: Layer };

type Run = (model: Tiny, patches: Patches) => void | Promise<void>;

const hook = (reload: 'rerun' | 'keep' | 'undo-redo', run: Run, more: Partial<LoadedHook> = {}): LoadedHook => ({
  of: 'Tiny',
  platform: 'hpu',
  phase: 'postLoad',
  reload,
  run: (model: Tiny, _: unknown, patches: Patches) => run(model, patches),
  owner: { plugin: `${reload}-plugin`, file: null },
  name: `${reload}-plugin: hook`,
  ...more,
});

const wrap =
  (name: 'a' | 'b'): Run =>
  (model, patches) => {
    model.log.push(`wrap ${name}`);
    patches.wrapChild(model, name, (inner: Layer) => ({ inner }));
  };

async function ready(...hooks: LoadedHook[]) {
  const runner = new HookRunner(target, hooks);
  const model = new Tiny();
  await runner.run('init', model, {});
  runner.lifecycle.advance('loaded');
  await runner.run('postLoad', model, {});
  runner.lifecycle.advance('ready');
  model.log.length = 0;
  const names = () => [...model.namedParameters()].map(([name]) => name);
  const load = (value: number) => () => {
    for (const [name, weight] of runner.parametersAtLoad(model)) weight.value = name === 'a.w' ? value : value + 1;
  };
  return { runner, model, names, load };
}

const values = (model: Tiny): number[] => [...model.namedParameters()].map(([, { value }]) => value);
const code = (name: string, more: object = {}) => expect.objectContaining({ code: name, ...more });

test('a checkpoint fills parameters under the names that they had before post-load hooks renamed them', async () => {
  const { runner, model, names } = await ready(hook('keep', wrap('a')));
  expect(names()).toEqual(['a.inner.w', 'b.w']);
  const atLoad = runner.parametersAtLoad(model);
  expect([...atLoad.keys()]).toEqual(['a.w', 'b.w']);
  expect([...atLoad.values()]).toEqual([...model.namedParameters()].map(([, parameter]) => parameter));
});

test('keep stays, rerun runs again on the new weights, undo-redo is undone before them and runs again after', async () => {
  const { runner, model, names, load } = await ready(
    hook('keep', wrap('a')),
    hook('rerun', (tiny) => {
      tiny.log.push('scale');
      tiny.scale = values(tiny)[0]! * 10;
    }),
    hook('undo-redo', wrap('b')),
    hook('rerun', () => undefined, { modes: ['eager'] }),
  );
  const [keptWrapper, undone] = [model.a, model.b];
  for (const value of [2, 5, 7]) {
    model.log.length = 0;
    const seen: string[][] = [];
    using reload = await runner.reload(model, {}, () => {
      seen.push(names());
      load(value)();
    });
    expect(seen).toEqual([['a.inner.w', 'b.w']]);
    reload.keep();
    expect(reload.hooks.map(({ outcome }) => outcome)).toEqual(['kept', 'ran again', 'undone and ran again', 'skipped: other mode']);
    expect([model.log, model.scale, values(model)]).toEqual([['scale', 'wrap b'], value * 10, [value, value + 1]]);
    expect(names()).toEqual(['a.inner.w', 'b.inner.w']);
  }
  expect([model.a === keptWrapper, model.b === undone]).toEqual([true, false]);
  expect(runner.ledger.toJSON().map(({ target, plugin }) => [target, plugin])).toEqual([
    ['Tiny.a', 'keep-plugin'],
    ['Tiny.b', 'undo-redo-plugin'],
  ]);
  expect(runner.toJSON().renames.map(({ from, to }) => [from, to])).toEqual([
    ['a.w', 'a.inner.w'],
    ['b.w', 'b.inner.w'],
  ]);
  expect(runner.lifecycle.state).toBe('ready');
});

test('dropped before it is kept, a reload leaves the model, the ledger and the next reload as they were', async () => {
  const { runner, model, names, load } = await ready(hook('undo-redo', wrap('b')));
  const [wrapper, records] = [model.b, runner.ledger.toJSON()];
  {
    using reload = await runner.reload(model, {}, load(9));
    expect([values(model), reload.hooks.length, runner.lifecycle.state]).toEqual([[9, 10], 1, 'reloading']);
  }
  expect([values(model), names(), model.b === wrapper]).toEqual([[1, 1], ['a.w', 'b.inner.w'], true]);
  expect(runner.ledger.toJSON()).toEqual(records);
  expect(runner.lifecycle.state).toBe('ready');
  using again = await runner.reload(model, {}, load(4));
  again.keep();
  expect(values(model)).toEqual([4, 5]);
});

test.each<[string, () => LoadedHook, string, RegExp]>([
  [
    'throws',
    () =>
      hook(
        'rerun',
        failSecond(() => Promise.reject(new Error('no room'))),
      ),
    'GRAFT_HOOK_FAILED',
    /no room[\s\S]*as it was before/,
  ],
  [
    'patches though it says rerun',
    () =>
      hook(
        'rerun',
        failSecond((tiny, patches) => patches.lend(tiny, 'extra', {})),
      ),
    'GRAFT_RELOAD_CHANGED_MODEL',
    /1 patches[\s\S]*rerun-plugin[\s\S]*undo-redo/,
  ],
  ['renames though it says rerun', () => hook('rerun', failSecond(wrap('a'))), 'GRAFT_RELOAD_CHANGED_MODEL', /"a\.w" to "a\.inner\.w"/],
  [
    'drops a parameter',
    () =>
      hook(
        'rerun',
        failSecond((tiny) => void (tiny.namedParameters = () => [])),
      ),
    'GRAFT_HOOK_CHANGED_PARAMETERS',
    /"a\.w" was dropped/,
  ],
  [
    'wraps another child the second time',
    () => {
      let runs = 0;
      return hook('undo-redo', (tiny, patches) => wrap(runs++ === 0 ? 'b' : 'a')(tiny, patches));
    },
    'GRAFT_RELOAD_CHANGED_MODEL',
    /"b\.inner\.inner\.w" was renamed to "b\.inner\.w"/,
  ],
])('a hook that %s on a reload ends it, and the model is as it was', async (_, make, errorCode, words) => {
  const { runner, model, names, load } = await ready(hook('undo-redo', wrap('b')), make());
  const [before, records, wrapper] = [names(), runner.ledger.toJSON(), model.b];
  const error = await runner.reload(model, {}, load(3)).catch((thrown: unknown) => thrown);
  expect(error).toMatchObject({ code: errorCode, message: expect.stringMatching(words) });
  expect([names(), values(model), model.b === wrapper]).toEqual([before, [1, 1], true]);
  expect(runner.ledger.toJSON()).toEqual(records);
  expect(runner.lifecycle.state).toBe('ready');
});

/** Does nothing the first time. */
function failSecond(run: Run): Run {
  let runs = 0;
  return (model, patches) => (runs++ === 0 ? undefined : run(model, patches));
}

test('a hook that says keep and patched on top of one that says undo-redo: refused before anything changes, naming both patches', async () => {
  const { runner, model, load } = await ready(
    hook('undo-redo', wrap('b')),
    hook('keep', (tiny, patches) => patches.lend(tiny, 'extra', {})),
  );
  const error = await runner.reload(model, {}, load(3)).catch((thrown: unknown) => thrown);
  expect(error).toEqual(code('GRAFT_PATCH_ORDER', { what: expect.stringMatching(/wrapChild of Tiny\.b[\s\S]*lend of Tiny\.extra/) }));
  expect([values(model), model.log, runner.lifecycle.state]).toEqual([[1, 1], [], 'ready']);
});

test('what was patched and then changed by hand cannot be undone: refused, with the patches before it in effect', async () => {
  const { runner, model, names, load } = await ready(hook('undo-redo', wrap('a')), hook('undo-redo', wrap('b')));
  const wrapper = model.a;
  (model as { a: Layer }).a = { inner: wrapper };
  const records = runner.ledger.toJSON();
  await expect(runner.reload(model, {}, load(3))).rejects.toEqual(code('GRAFT_PATCH_OVERWRITTEN'));
  expect([values(model), names(), runner.ledger.toJSON()]).toEqual([[1, 1], ['a.inner.inner.w', 'b.inner.w'], records]);
  expect(runner.lifecycle.state).toBe('ready');
});

test('only a model that is ready can be given other weights, one reload at a time; outside of its hooks a patch is refused', async () => {
  const hooks = new HookRunner(target);
  expect(() => hooks.parametersAtLoad(new Tiny())).toThrow(/constructed/);
  await expect(hooks.reload(new Tiny(), {}, () => undefined)).rejects.toEqual(code('GRAFT_LIFECYCLE'));
  let kept: Patches | null = null;
  const { runner, model, load } = await ready(hook('rerun', (_, patches) => void (kept = patches)));
  using reload = await runner.reload(model, {}, load(3));
  await expect(runner.reload(model, {}, load(4))).rejects.toEqual(code('GRAFT_LIFECYCLE', { what: expect.stringMatching(/reloading/) }));
  expect(() => kept!.lend(model, 'x', {})).toThrow(/has ended/);
  reload.keep();
  expect(() => kept!.lend(model, 'x', {})).toThrow(/is ready/);
});
