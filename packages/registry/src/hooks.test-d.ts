// Where hook decorators may stand, and what tokens carry, held by the compiler: `npm test -- types`.
import type { BindingSyntax, Scope } from '@graft/services';
import { type Bind, InitHook, listToken, type Patches, PostLoadHook, ServiceContainer, token } from './index.ts';

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

  // @ts-expect-error: a field is not a method
  @InitHook()
  field = 1;

  // @ts-expect-error: an accessor is not a method
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
export const Cache = token<Cache>('Cache');
const scope: Scope = 'model';
export const Runner = token<{ cache: Cache }>('Runner', scope);
export const Names = listToken<string>('Names');
// @ts-expect-error: a service lives as long as the engine or as long as a model
token('Request', 'request');

export function bindAll(bind: Bind): void {
  const syntax: BindingSyntax<{ cache: Cache }> = bind(Runner);
  syntax.toDynamicValue(async (services) => ({ cache: await services.get(Cache) }));
  // @ts-expect-error: not what the token says
  syntax.toDynamicValue(() => ({ cache: 1 }));
  // @ts-expect-error: a class of something else
  syntax.to(Date);
  // @ts-expect-error: it imports a class of something else
  syntax.to(async () => Date);
  bind.many(Names).toConstantValue('x');
  // @ts-expect-error: an element, not a list
  bind.many(Names).toConstantValue(['x']);
  // @ts-expect-error: one service is not a list
  bind.many(Cache);
  bind.decorate(Names, (inner) => inner.slice(1));
  // @ts-expect-error: the service's type stays
  bind.decorate(Cache, () => 'x');
}

export const bytes: Promise<Cache> = new ServiceContainer().get(Cache);
// @ts-expect-error: the type is the token's
export const text: Promise<string> = new ServiceContainer().get(Cache);
