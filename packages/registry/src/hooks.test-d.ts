// Where hook decorators may stand, and what tokens carry, held by the compiler: `npm test -- types`.
import {
  type BindingSyntax,
  EngineContainer,
  InitHook,
  type ModelBinder,
  type Patches,
  PostLoadHook,
  type Scope,
  type ServiceIdentifier,
  token,
} from './index.ts';

export class Hooked {
  @InitHook()
  plain(): void {}

  @InitHook({ modes: ['compile'], reason: 'one graph' })
  withPatches(patches: Patches): void {
    patches.lend(this, 'x', {});
    // @ts-expect-error: a class, not an instance
    patches.swapClass(this, new Hooked());
    // @ts-expect-error: a function, not its name
    patches.replaceMethod(this, 'plain', 'withPatches');
  }

  @PostLoadHook({ reload: 'undo-redo' })
  async later(): Promise<void> {}

  // @ts-expect-error: a postLoad hook says what a reload does with it
  @PostLoadHook({})
  silent(): void {}

  // @ts-expect-error: nor may it say anything
  @PostLoadHook({ reload: 'maybe' })
  unsure(): void {}

  // @ts-expect-error: an init hook has no reload
  @InitHook({ reload: 'keep' })
  reloading(): void {}

  // @ts-expect-error: a field is no method
  @InitHook()
  field = 1;

  // @ts-expect-error: an accessor is no method
  @InitHook()
  get accessor(): number {
    return 1;
  }

  // @ts-expect-error: it is given patches, not a number
  @InitHook()
  wants(_count: number): void {}

  // @ts-expect-error: what it returns is not looked at
  @InitHook()
  returns(): number {
    return 1;
  }
}

// A factory's class is exported with its members: a protected one does not compile (TS4094), so hooks are public.
export const factory = (Base: typeof Hooked) => {
  class Stacked extends Base {
    @InitHook()
    stack(): void {}
  }
  return Stacked;
};

interface Cache {
  bytes: number;
}
export const CacheToken: ServiceIdentifier<Cache> = token('Cache', 'engine');
const scope: Scope = 'model';
export const RunnerToken: ServiceIdentifier<{ cache: Cache }> = token('Runner', scope);
// @ts-expect-error: a service lives as long as the engine or as long as a model
token('Request', 'request');
// @ts-expect-error: a token says how long its service lives
token('Unscoped');

export function bindModel(bind: ModelBinder): void {
  const syntax: BindingSyntax<{ cache: Cache }> = bind.bind(RunnerToken);
  syntax.toDynamicValue((services) => ({ cache: services.get(CacheToken) }));
  syntax.toDynamicValue(async (services) => ({ cache: await services.getAsync(CacheToken) }));
  // @ts-expect-error: not what the token says
  syntax.toDynamicValue(() => ({ cache: 1 }));
  // @ts-expect-error: a class of something else
  syntax.to(Date);
}

export const bytes: number = new EngineContainer().get(CacheToken).bytes;
// @ts-expect-error: the type is the token's
export const text: string = new EngineContainer().get(CacheToken).bytes;
