import { declaresFields } from './class-source.ts';
import type { Phase } from './hooks.ts';
import { Lifecycle } from './lifecycle.ts';
import { PatchOrderError, PatchOverwrittenError, PatchRefusedError } from './model-errors.ts';

export type PatchOperation = 'swapClass' | 'lend' | 'replaceMethod' | 'wrapChild' | 'setField';

/** Who changes the model, in which phase and hook. */
export interface PatchOwner {
  readonly plugin: string;
  readonly hook: string;
  readonly phase: Phase;
}

/** One in-place change, as data. */
export interface PatchRecord extends PatchOwner {
  readonly id: number;
  readonly operation: PatchOperation;
  /** The class of the instance that was changed, and the property where there is one. */
  readonly target: string;
  /** Where it stands in the model (`layers.3.self_attn.attn`); null for an object that is not a part of it. */
  readonly path: string | null;
  readonly detail: string;
  readonly reason: string | null;
}

export interface PatchOptions {
  /** What the change removes; the hook's reason unless given. */
  reason?: string;
}

/** What a hook may do to a model in place. Usable only while its hook runs. */
export interface Patches {
  /** Gives an instance another class. Refused for a class that sets fields: they would not be initialised. */
  swapClass(instance: object, Class: new (...args: never) => object, options?: PatchOptions): void;
  /** Puts `value` where `forward` finds it as `host[name]`, without making it a part of the tree: its owner stays another. */
  lend(host: object, name: string, value: object, options?: PatchOptions): void;
  /** Gives one instance another method. The unbound function: a bound one is a new identity on every layer, and multiplies graphs. */
  replaceMethod(instance: object, name: string, method: (this: never, ...args: never) => unknown, options?: PatchOptions): void;
  /** Puts `wrap(child)` in the place of a child. */
  wrapChild<Child extends object>(host: object, name: string, wrap: (child: Child) => object, options?: PatchOptions): void;
  /** Gives an instance a field of its own: a marker, a constant, or a buffer, which is then a part of the tree. Refused where there is a field already. */
  setField(instance: object, name: string, value: unknown, options?: PatchOptions): void;
  /** Tells the user why something was left as it is; the hook's record has it. Changes nothing. */
  warn(message: string): void;
}

interface Place {
  readonly target: string;
  readonly path: string | null;
}

interface Patch {
  readonly record: PatchRecord;
  /** Whether what the patch put there is still there. */
  intact(): boolean;
  undo(): void;
  /** Puts the very same thing there again. */
  redo(): void;
}

/** Every in-place change of one model: who, when, why, and how to undo it, last in first out. */
export class PatchLedger {
  private readonly lifecycle: Lifecycle;
  private readonly patches: Patch[] = [];
  private nextId = 1;

  constructor(lifecycle: Lifecycle = new Lifecycle()) {
    this.lifecycle = lifecycle;
  }

  /** The patches that a hook may make, until `close`. */
  open(
    owner: PatchOwner,
    defaultReason: string | null = null,
    pathOf: (instance: object) => string | null = () => null,
  ): { patches: Patches; warnings: readonly string[]; close(): void } {
    let isOpen = true;
    const warnings: string[] = [];
    const apply = (
      operation: PatchOperation,
      { target, path }: Place,
      { reason = defaultReason ?? undefined }: PatchOptions,
      change: () => Change,
    ) => {
      this.lifecycle.require(`${operation} (${owner.hook})`, 'constructed', 'initialized', 'loaded', 'reloading');
      if (!isOpen)
        throw new PatchRefusedError({
          operation,
          target,
          problem: `the hook ${owner.hook} has ended`,
          fix: 'patch while the hook runs, and await what it starts.',
        });
      const { detail, ...rest } = change();
      this.patches.push({ record: { id: this.nextId++, operation, target, path, detail, reason: reason ?? null, ...owner }, ...rest });
    };
    const place = (host: object, name?: string): Place => {
      const path = pathOf(host);
      if (name === undefined) return { target: nameOf(host), path };
      return { target: `${nameOf(host)}.${name}`, path: path === null ? null : path === '' ? name : `${path}.${name}` };
    };
    const patches: Patches = {
      swapClass: (instance, Class, options = {}) => apply('swapClass', place(instance), options, () => swapClass(instance, Class)),
      lend: (host, name, value, options = {}) => apply('lend', place(host, name), options, () => lend(host, name, value)),
      replaceMethod: (instance, name, method, options = {}) =>
        apply('replaceMethod', place(instance, name), options, () => replaceMethod(instance, name, method)),
      wrapChild: (host, name, wrap, options = {}) => apply('wrapChild', place(host, name), options, () => wrapChild(host, name, wrap)),
      setField: (instance, name, value, options = {}) =>
        apply('setField', place(instance, name), options, () => setField(instance, name, value)),
      warn: (message) => void warnings.push(message),
    };
    return { patches, warnings, close: () => (isOpen = false) };
  }

  /** A point to which `undoTo` goes back. */
  mark(): number {
    return this.patches.length;
  }

  /**
   * Undoes the last patches until `mark`.
   * @throws PatchOverwrittenError when one was changed again without the ledger; that one and those before it stay.
   */
  undoTo(mark: number): void {
    while (this.patches.length > mark) this.undoLast();
  }

  /** As `undoTo`, for a phase that failed: what was changed again without the ledger is left to the caller to restore. */
  takeBack(mark: number): void {
    for (const patch of this.patches.splice(mark).reverse()) if (patch.intact()) patch.undo();
  }

  /**
   * Undoes these patches, which must be the last ones.
   * @returns what puts them back as they were, once all later ones are undone.
   * @throws PatchOrderError, PatchOverwrittenError; all patches are then in effect.
   */
  suspend(ids: ReadonlySet<number>): () => void {
    const first = this.patches.findIndex(({ record }) => ids.has(record.id));
    if (first < 0) return () => undefined;
    const suspended = this.patches.slice(first);
    const others = suspended.filter(({ record }) => !ids.has(record.id));
    if (others.length > 0)
      throw new PatchOrderError(
        patchText(suspended[0]!.record),
        others.map(({ record }) => patchText(record)),
      );
    const putBack = (): void => {
      for (const patch of suspended.slice(this.patches.length - first)) {
        patch.redo();
        this.patches.push(patch);
      }
    };
    try {
      this.undoTo(first);
    } catch (error) {
      putBack();
      throw error;
    }
    return putBack;
  }

  /**
   * Undoes one patch, which must be the last.
   * @throws PatchOrderError, PatchOverwrittenError, and LifecycleError at `ready`.
   */
  undo(id: number): void {
    this.lifecycle.require('undo', 'constructed', 'initialized', 'loaded');
    const index = this.patches.findIndex(({ record }) => record.id === id);
    const patch = this.patches[index];
    if (patch === undefined)
      throw new PatchRefusedError({
        operation: 'undo',
        target: `patch ${id}`,
        problem: 'no such patch is in effect',
        fix: 'take an id from the ledger’s records.',
      });
    if (index < this.patches.length - 1)
      throw new PatchOrderError(
        patchText(patch.record),
        this.patches.slice(index + 1).map(({ record }) => patchText(record)),
      );
    this.undoLast();
  }

  /** The patches in effect, oldest first. */
  toJSON(): PatchRecord[] {
    return this.patches.map(({ record }) => record);
  }

  private undoLast(): void {
    const patch = this.patches.at(-1)!;
    if (!patch.intact()) throw new PatchOverwrittenError(patchText(patch.record));
    patch.undo();
    this.patches.pop();
  }
}

function patchText({ id, operation, target }: PatchRecord): string {
  return `patch ${id} (${operation} of ${target})`;
}

function nameOf(instance: object): string {
  return instance.constructor?.name ?? 'object';
}

interface Change extends Omit<Patch, 'record'> {
  detail: string;
}

function swapClass(instance: object, Class: new (...args: never) => object): Change {
  const before: object | null = Object.getPrototypeOf(instance);
  const after: object = Class.prototype;
  for (
    let prototype: object | null = after;
    prototype !== null && prototype !== Object.prototype;
    prototype = Object.getPrototypeOf(prototype)
  ) {
    // What the instance already is was initialised when it was built.
    if (Object.prototype.isPrototypeOf.call(prototype, instance)) break;
    if (declaresFields(prototype.constructor)) {
      throw new PatchRefusedError({
        operation: 'swapClass',
        target: nameOf(instance),
        problem: `${prototype.constructor.name} sets fields, which would not be initialised on an instance of ${nameOf(instance)}`,
        fix: 'swap in a class that only has methods, or wrap the child.',
      });
    }
  }
  const detail = `${nameOf(instance)} became ${Class.name}`;
  const redo = (): void => void Object.setPrototypeOf(instance, after);
  redo();
  return {
    detail,
    intact: () => Object.getPrototypeOf(instance) === after,
    undo: () => void Object.setPrototypeOf(instance, before),
    redo,
  };
}

function lend(host: object, name: string, value: object): Change {
  return define(host, name, { value, enumerable: false, configurable: true, writable: true }, `${nameOf(value)} was lent`);
}

function replaceMethod(instance: object, name: string, method: (this: never, ...args: never) => unknown): Change {
  const problem =
    typeof method !== 'function'
      ? `it was given ${typeof method}, not a function`
      : method.name.startsWith('bound ')
        ? `"${method.name}" is a bound function, a new identity on every layer`
        : typeof (instance as Record<string, unknown>)[name] !== 'function'
          ? `${nameOf(instance)} has no method "${name}"`
          : null;
  if (problem !== null)
    throw new PatchRefusedError({
      operation: 'replaceMethod',
      target: `${nameOf(instance)}.${name}`,
      problem,
      fix: 'give one function, shared by all layers, that reads `this`.',
    });
  return define(
    instance,
    name,
    { value: method, enumerable: false, configurable: true, writable: true },
    `replaced by ${method.name || 'an unnamed function'}`,
  );
}

function wrapChild<Child extends object>(host: object, name: string, wrap: (child: Child) => object): Change {
  const descriptor = Object.getOwnPropertyDescriptor(host, name);
  const child: unknown = descriptor?.value;
  if (descriptor === undefined || typeof child !== 'object' || child === null) {
    throw new PatchRefusedError({
      operation: 'wrapChild',
      target: `${nameOf(host)}.${name}`,
      problem: `${nameOf(host)} has no child "${name}"`,
      fix: 'name a field that holds a module.',
    });
  }
  const wrapper = wrap(child as Child);
  return define(host, name, { ...descriptor, value: wrapper }, `${nameOf(child)} was wrapped in ${nameOf(wrapper)}`);
}

function setField(instance: object, name: string, value: unknown): Change {
  if (name in instance) {
    throw new PatchRefusedError({
      operation: 'setField',
      target: `${nameOf(instance)}.${name}`,
      problem: `${nameOf(instance)} has a "${name}" already`,
      fix: 'take another name, or replace what is there by lend, replaceMethod or wrapChild.',
    });
  }
  const text = typeof value === 'object' && value !== null ? `a ${nameOf(value)}` : String(value);
  return define(instance, name, { value, enumerable: true, configurable: true, writable: true }, `set to ${text}`);
}

function define(target: object, name: string, descriptor: PropertyDescriptor, detail: string): Change {
  const before = Object.getOwnPropertyDescriptor(target, name);
  const redo = (): void => void Object.defineProperty(target, name, descriptor);
  redo();
  return {
    detail,
    intact: () => Object.getOwnPropertyDescriptor(target, name)?.value === descriptor.value,
    redo,
    undo: () => {
      if (before === undefined) Reflect.deleteProperty(target, name);
      else Object.defineProperty(target, name, before);
    },
  };
}
