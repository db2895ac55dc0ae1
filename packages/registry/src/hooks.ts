import { expectValid } from '@graft/common';
import { HookTargetError } from './model-errors.ts';
import type { Patches } from './patch-ledger.ts';
import { hookOptions } from './plugin.ts';
import { prototypesOf } from './prototypes.ts';

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

export interface HookDeclaration {
  readonly phase: Phase;
  readonly method: string;
  readonly prototype: object;
  readonly modes: readonly string[] | null;
  readonly reason: string | null;
  readonly reload: PostLoadReload | null;
}

/** The decorator's options. The place of the mark gives class and method. */
type Mark = Omit<HookDeclaration, 'method' | 'prototype'>;

/** Hook methods are public and take the ledger's patches, which they may ignore. */
export type HookMethod = (patches: Patches) => void | Promise<void>;

/** TypeScript's decorators (`experimentalDecorators`) and those of the language, which a runner without our tsconfig applies. */
interface HookDecorator {
  <Method extends HookMethod>(target: object, name: string, descriptor: TypedPropertyDescriptor<Method>): void;
  <Method extends HookMethod>(method: Method, context: ClassMethodDecoratorContext): void;
}

// A property of the method itself, where either kind of decorator can put it. Duplicate copies of the package share the key: the application's
// registry must understand a vendor's class.
const marks = Symbol.for('graft.hooks');

/**
 * Runs the method after the model was built and before weights are read. It may not add, drop, rename, retype or reshape a parameter.
 * @throws HookTargetError on anything but a public method with a name.
 */
export function InitHook(options: InitHookOptions = {}, ...rest: never[]): HookDecorator {
  return declare('init', options, null, rest);
}

/** Runs the method after the weights were loaded. It may rename parameters; renames are recorded. */
export function PostLoadHook(options: PostLoadHookOptions = {} as never, ...rest: never[]): HookDecorator {
  return declare('postLoad', options, options.reload ?? null, rest);
}

type Place = string | symbol | ClassMethodDecoratorContext;

/** `Class.method`; the language's decorators know the method alone. */
function nameAt(target: object, at: Place): string {
  if (typeof at === 'object') return String(at.name);
  return `${typeof target === 'function' ? target.name : target.constructor.name}.${String(at)}`;
}

/** @param rest what a decorator without parentheses gets after its target. */
function declare(phase: Phase, given: InitHookOptions, reload: PostLoadReload | null, [at]: readonly Place[]): HookDecorator {
  const isTarget = typeof given === 'function' || Object.hasOwn(given, 'constructor'); // a method, or a prototype
  if (isTarget)
    throw new HookTargetError(
      at === undefined ? 'A method' : nameAt(given, at),
      'its decorator has no parentheses',
      `write \`@${phase === 'init' ? 'InitHook()' : "PostLoadHook({ reload: 'rerun' })"}\`.`,
    );
  const { modes, reason } = given;
  const mark: Mark = { phase, modes: modes ?? null, reason: reason ?? null, reload };
  return (target: object, at: Place, descriptor?: { value?: unknown }): void => {
    const isLegacy = typeof at !== 'object'; // TypeScript's kind
    const isStatic = isLegacy ? typeof target === 'function' : at.static;
    const method = isLegacy ? descriptor?.value : target;
    const key = isLegacy ? at : at.name;
    const name = nameAt(target, at);
    const isPublic = typeof key === 'string' && (isLegacy || (at.kind === 'method' && !at.private));
    if (isStatic) throw new HookTargetError(name, 'it is static');
    if (!isPublic || typeof method !== 'function') throw new HookTargetError(name, 'it is not a method with a public name');
    const schema = phase === 'init' ? hookOptions.omit({ reload: true }) : hookOptions;
    expectValid(
      schema,
      given,
      'options',
      (problems) => new HookTargetError(name, `its options are wrong: ${problems}`, 'correct the options.'),
    );
    if (phase === 'postLoad' && reload === null)
      throw new HookTargetError(
        name,
        'a postLoad hook must say what a reload does',
        "write `@PostLoadHook({ reload: 'rerun' })`, 'keep' or 'undo-redo'.",
      );
    Object.defineProperty(method, marks, { value: [...marksOf(method), mark], configurable: true });
  };
}

function marksOf(method: unknown): readonly Mark[] {
  return typeof method === 'function' ? ((Object.getOwnPropertyDescriptor(method, marks)?.value as readonly Mark[] | undefined) ?? []) : [];
}

/**
 * The hook methods of a class, base first, then subclass, each in the order of its source. A method that a subclass overrides runs once, in the
 * base's place; where the subclass decorates it again, with the subclass's options.
 */
export function hooksOf(Class: { prototype: object }, phase: Phase): HookDeclaration[] {
  const byMethod = new Map<string, HookDeclaration>();
  for (const prototype of prototypesOf(Class.prototype).reverse()) {
    for (const [method, { value }] of Object.entries(Object.getOwnPropertyDescriptors(prototype)))
      for (const mark of marksOf(value)) if (mark.phase === phase) byMethod.set(method, { ...mark, method, prototype });
  }
  return [...byMethod.values()];
}
