import { HookTargetError } from './model-errors.ts';
import type { Patches } from './patch-ledger.ts';

export type Phase = 'init' | 'postLoad';

/** What a reload of the weights does with a post-load hook: run it again, leave its effect, or undo it before and run it again after. */
export type PostLoadReload = 'rerun' | 'keep' | 'undo-redo';

export interface InitHookOptions {
  /** The modes in which it runs; all when left out. */
  modes?: readonly string[];
  /** What it removes, for `explain`. */
  reason?: string;
}

export interface PostLoadHookOptions extends InitHookOptions {
  reload: PostLoadReload;
}

/** A hook method as its class declares it. */
export interface HookDeclaration {
  readonly phase: Phase;
  readonly method: string;
  /** The class that declares it. */
  readonly className: string;
  readonly modes: readonly string[] | null;
  readonly reason: string | null;
  readonly reload: PostLoadReload | null;
}

/** Hook methods are public and take the ledger's patches, which they may ignore. */
type HookMethod = (patches: Patches) => void | Promise<void>;
type HookDecorator = <Method extends HookMethod>(target: object, name: string, descriptor: TypedPropertyDescriptor<Method>) => void;

// Shared by duplicate copies of the package: a vendor's class must be understood by the application's registry.
const declarations = Symbol.for('graft.hooks');

/**
 * Runs the method after the model was built and before weights are read. It may not add, drop, rename, retype or reshape a parameter.
 * @throws HookTargetError on anything but a public method with a name.
 */
export function InitHook(options: InitHookOptions = {}): HookDecorator {
  return declare('init', options, null);
}

/** Runs the method after the weights were loaded. It may rename parameters; renames are recorded. */
export function PostLoadHook(options: PostLoadHookOptions): HookDecorator {
  return declare('postLoad', options, options?.reload ?? null);
}

function declare(phase: Phase, { modes, reason }: InitHookOptions, reload: PostLoadReload | null): HookDecorator {
  return (target, name, descriptor) => {
    if (typeof target === 'function') throw new HookTargetError(`${target.name}.${name}`, 'it is static');
    const where = `${target.constructor.name}.${String(name)}`;
    if (typeof name !== 'string') throw new HookTargetError(where, 'its name is a symbol');
    if (typeof descriptor?.value !== 'function') throw new HookTargetError(where, 'it is not a method');
    if (phase === 'postLoad' && reload === null)
      throw new HookTargetError(where, "a postLoad hook must say `reload: 'rerun' | 'keep' | 'undo-redo'`");
    const hook: HookDeclaration = {
      phase,
      method: name,
      className: target.constructor.name,
      modes: modes ?? null,
      reason: reason ?? null,
      reload,
    };
    Object.defineProperty(target, declarations, { value: [...ownHooks(target), hook], configurable: true });
  };
}

function ownHooks(prototype: object): readonly HookDeclaration[] {
  return (Object.getOwnPropertyDescriptor(prototype, declarations)?.value as readonly HookDeclaration[] | undefined) ?? [];
}

/**
 * The hook methods of a class, base first, then subclass, each in the order of its source. A method that a subclass overrides runs once, in the
 * base's place; where the subclass decorates it again, with the subclass's options.
 */
export function hooksOf(Class: { prototype: object }, phase: Phase): HookDeclaration[] {
  const prototypes: object[] = [];
  for (
    let prototype = Class.prototype;
    prototype !== null && prototype !== Object.prototype;
    prototype = Object.getPrototypeOf(prototype)
  ) {
    prototypes.unshift(prototype);
  }
  const byMethod = new Map<string, HookDeclaration>();
  for (const prototype of prototypes) {
    for (const hook of ownHooks(prototype)) if (hook.phase === phase) byMethod.set(hook.method, hook);
  }
  return [...byMethod.values()];
}
