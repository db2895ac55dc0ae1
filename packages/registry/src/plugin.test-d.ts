// What a plugin may declare, held by the compiler: `npm test -- types`.
import { definePlugin, type LazyModel, type LoadedPlugins, type ModelClass, type Plugin, type ReliesOn } from './index.ts';

class Context {
  readonly layers: number = 1;
}
class Llama {
  constructor(context: Context) {
    void context.layers;
  }
}
const model = async () => Llama;

// @ts-expect-error: a name is required
definePlugin({ models: [{ architecture: 'Llama', model }] });
// @ts-expect-error: a typo in a field
definePlugin({ name: 'typo', override: [] });
// @ts-expect-error: one name is a list of one
definePlugin({ name: 'after', after: 'core-model' });
// @ts-expect-error: a version range is a string
definePlugin({ name: 'range', graft: 1 });

// @ts-expect-error: the class itself is not lazy
definePlugin({ name: 'eager', models: [{ architecture: 'Llama', model: Llama }] });
// @ts-expect-error: a module is not a class: `.then((m) => m.MyModel)`
definePlugin({ name: 'module', models: [{ architecture: 'Llama', model: () => import('./model.ts') }] });
// @ts-expect-error: an override is of an architecture
definePlugin({ name: 'of-nothing', overrides: [{ platform: 'cpu', model }] });
// @ts-expect-error: an override serves one platform
definePlugin({ name: 'nowhere', overrides: [{ of: 'Llama', model }] });
// @ts-expect-error: neither model nor factory
definePlugin({ name: 'neither', overrides: [{ of: 'Llama', platform: 'cpu' }] });
// @ts-expect-error: a factory takes the base and gives a class
definePlugin({ name: 'factory', overrides: [{ of: 'Llama', platform: 'cpu', factory: async () => 'Llama' }] });

// @ts-expect-error: a platform has a detector
definePlugin({ name: 'undetected', platforms: [{ name: 'npu', modes: ['full'] }] });
// @ts-expect-error: a detector answers device, emulated or absent
definePlugin({ name: 'unsure', platforms: [{ name: 'npu', modes: ['full'], detect: () => 'maybe' }] });

const hook = { of: 'Llama', platform: 'cpu', run(): void {} };
definePlugin({
  name: 'hooks',
  hooks: [
    { ...hook, phase: 'init' },
    { ...hook, phase: 'postLoad', reload: 'keep' },
  ],
});
// @ts-expect-error: there are two phases
definePlugin({ name: 'phase', hooks: [{ ...hook, phase: 'ready' }] });
// @ts-expect-error: a reload reruns, keeps, or undoes and redoes
definePlugin({ name: 'reload', hooks: [{ ...hook, phase: 'postLoad', reload: 'sometimes' }] });

export const contract: ReliesOn = {
  attributes: ['model.layers'],
  methods: ['forward(positions)'],
  parameters: ['model.norm.weight'],
  version: '^0.1.0',
  copied: { 'Attention.forward': '0123456789abcdef' },
};
// @ts-expect-error: a typo in a fact
export const misspelt: ReliesOn = { atributes: [] };

// A plugin is what definePlugin gives, not an object that looks like one.
export const made: Plugin = definePlugin({ name: 'made' });
// @ts-expect-error: it was not validated
export const notMade: Plugin = { name: 'made' };

// A binder binds, and nothing else.
definePlugin({
  name: 'binder',
  bind(bind) {
    // @ts-expect-error: it cannot read
    bind.get;
    // @ts-expect-error: nor unbind
    bind.unbind;
  },
});

// What load() gives is what the caller says, and a context that does not fit does not compile.
export async function loads({ registry }: LoadedPlugins): Promise<void> {
  const resolution = registry.resolve(['Llama'], { platform: 'cpu' });
  const { Model: Typed } = await registry.load<Context, Llama>(resolution);
  const same: ModelClass<Context, Llama> = Typed;
  new same(new Context());
  new Typed(new Context());
  // @ts-expect-error: another context
  new Typed({ layers: 'two' });
  const { Model: Untyped } = await registry.load(resolution);
  // @ts-expect-error: without a type, nothing may be passed
  new Untyped(new Context());
  // @ts-expect-error: one name is a list of one, as in config.json
  registry.resolve('Llama', { platform: 'cpu' });
  // @ts-expect-error: the platform is not optional
  registry.resolve(['Llama'], {});
}

export const lazy: LazyModel = model;
