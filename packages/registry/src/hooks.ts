import { HookTargetError } from './model-errors.ts';
import type { Patches } from './patch-ledger.ts';

export type Phase = 'init' | 'postLoad';

/** On a reload of the weights a post-load hook runs again, keeps its effect, or is undone before and runs again after. */
export type PostLoadReload = 'rerun' | 'keep' | 'undo-redo';

export interface InitHookOptions {
  /** The modes in which it runs; all when left out. */
  modes?: readonly string[];
  /** The guard or branch that the hook removes, for `explain`. */
  reason?: string;
}

export interface PostLoadHookOptions extends InitHookOptions {
  reload: PostLoadReload;
}

/** A hook method as its class declares it. */
export interface HookDeclaration {
  readonly phase: Phase;
  readonly method: string;
  /** Of the class that declares it. */
  readonly prototype: object;
  readonly modes: readonly string[] | null;
  readonly reason: string | null;
  readonly reload: PostLoadReload | null;
}

/** The decorator's options. Class and method are known from where the mark stands. */
type Mark = Omit<HookDeclaration, 'method' | 'prototype'>;

/** Hook methods are public and take the ledger's patches, which they may ignore. */
type HookMethod = (patches: Patches) => void | Promise<void>;

/** Both kinds of decorator: TypeScript's (`experimentalDecorators`) and the language's, which a runner without our tsconfig applies. */
interface HookDecorator {
  <Method extends HookMethod>(target: object, name: string, descriptor: TypedPropertyDescriptor<Method>): void;
  <Method extends HookMethod>(method: Method, context: ClassMethodDecoratorContext): void;
}

// On the method itself, where either kind can put it. Shared by duplicate copies of the package: a vendor's class must be understood by the
// application's registry.
const marks = Symbol.for('graft.hooks');

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
  const mark: Mark = { phase, modes: modes ?? null, reason: reason ?? null, reload };
  return (target: object, nameOrContext: string | ClassMethodDecoratorContext, descriptor?: { value?: unknown }): void => {
    const { name, method, isStatic, isNamed } =
      typeof nameOrContext === 'object' ? ofContext(target, nameOrContext) : ofProperty(target, nameOrContext, descriptor);
    if (isStatic) throw new HookTargetError(name, 'it is static');
    if (!isNamed || typeof method !== 'function') throw new HookTargetError(name, 'it is not a method with a public name');
    if (phase === 'postLoad' && reload === null)
      throw new HookTargetError(name, "a postLoad hook must say `reload: 'rerun' | 'keep' | 'undo-redo'`");
    Object.defineProperty(method, marks, { value: [...marksOf(method), mark], configurable: true });
  };
}

function ofProperty(target: object, key: string, descriptor: { value?: unknown } | undefined) {
  const isStatic = typeof target === 'function';
  const name = `${isStatic ? target.name : target.constructor.name}.${String(key)}`;
  return { name, method: descriptor?.value, isStatic, isNamed: typeof key === 'string' };
}

function ofContext(method: unknown, { name, kind, static: isStatic, private: isPrivate }: ClassMethodDecoratorContext) {
  return { name: String(name), method, isStatic, isNamed: kind === 'method' && !isPrivate && typeof name === 'string' };
}

function marksOf(method: unknown): readonly Mark[] {
  return typeof method === 'function' ? ((Object.getOwnPropertyDescriptor(method, marks)?.value as readonly Mark[] | undefined) ?? []) : [];
}

/**
 * The hook methods of a class, base first, then subclass, each in the order of its source. A method that a subclass overrides runs once, in the
 * base's place; where the subclass decorates it again, with the subclass's options.
 */
export function hooksOf(Class: { prototype: object }, phase: Phase): HookDeclaration[] {
  const prototypes: object[] = [];
  for (let at = Class.prototype; at !== null && at !== Object.prototype; at = Object.getPrototypeOf(at)) prototypes.unshift(at);
  const byMethod = new Map<string, HookDeclaration>();
  for (const prototype of prototypes) {
    for (const [method, { value }] of Object.entries(Object.getOwnPropertyDescriptors(prototype)))
      for (const mark of marksOf(value)) if (mark.phase === phase) byMethod.set(method, { ...mark, method, prototype });
  }
  return [...byMethod.values()];
}
