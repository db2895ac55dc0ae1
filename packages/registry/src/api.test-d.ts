// The public types, held by the compiler: `npm test -- types`.
import { definePlugin, HookRunner, InitHook, ModelRegistry, type Patches, ServiceContainer, token } from './index.ts';

class Context {
  readonly layers: number = 1;
}
class Llama {
  readonly context: Context;
  constructor(context: Context) {
    this.context = context;
  }
  *namedParameters(): Iterable<[string, { dtype: string; shape: readonly number[] }]> {}
  *namedBuffers(): Iterable<[string, { dtype: string; shape: readonly number[]; persistent: boolean }]> {}
}

// A factory names its base, and gives back a class with public hook methods.
const factory = (Base: typeof Llama) => {
  class Fast extends Base {
    @InitHook({ modes: ['compile'] })
    unify(): void {}
    @InitHook()
    async swap(patches: Patches): Promise<void> {
      patches.lend(this, 'x', {});
    }
  }
  return Fast;
};

export const plugin = definePlugin({
  name: 'typed',
  models: [{ architecture: 'Llama', model: async () => Llama, capabilities: { images: false } }],
  overrides: [
    { of: 'Llama', platform: 'cpu', factory: async () => factory },
    // @ts-expect-error: exactly one of `model` and `factory`
    { of: 'Llama', platform: 'cpu', model: async () => Llama, factory: async () => factory },
  ],
  hooks: [{ of: 'Llama', platform: 'cpu', phase: 'init', run: (model: Llama, context: Context) => void (model.context === context) }],
});

export const wrong = class extends Llama {
  // @ts-expect-error: a hook method takes patches or nothing
  @InitHook()
  unify(_count: number): void {}
};

// A resolution's class is what the caller says it is, and construct keeps it.
export async function loadTyped(): Promise<Llama> {
  const registry = new ModelRegistry();
  const classes = await registry.load<Context, Llama>(registry.resolve(['Llama'], { platform: 'cpu' }));
  const model = await classes.construct(new Context());
  // @ts-expect-error: a part takes what its constructor takes
  classes.build(Llama, 'context');
  await new HookRunner(classes.resolution).run('init', model, model.context);
  return model;
}

// A token carries its type.
const Threads = token<{ count: number }>('Threads');
const engine = new ServiceContainer();
engine.bind(Threads).toConstantValue({ count: 2 });
export const threads: Promise<{ count: number }> = engine.get(Threads);
// @ts-expect-error: not what the token says
engine.bind(Threads).toConstantValue({ count: 'two' });
