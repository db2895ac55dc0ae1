import semver from 'semver';
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
  /** Where it stands in the model: `layers.3.self_attn.attn`. */
  readonly path: string;
  readonly detail: string;
  readonly reason: string | null;
  readonly upstream: string | null;
  readonly removeWhen: string | null;
  /** Who reads it other than `forward`. */
  readonly readBy: string | null;
  /** Whether a captured `forward` read it; null before a capture. */
  readonly read: boolean | null;
  /** A later patch that took its place. */
  readonly coveredBy: { readonly id: number; readonly plugin: string } | null;
}

export interface PatchOptions {
  /** The guard or branch that the patch removes. Default: the hook's reason. */
  reason?: string;
  /** A link to what upstream is asked to change, after which the patch can go. */
  upstream?: string;
  /** Versions of the upstream plugin that do not need the patch, as a semver range. With one of them the model does not load. */
  removeWhen?: string;
  /** For a patch that `forward` does not read: who does, such as `the runner`. */
  readBy?: string;
}

type Method = (this: never, ...args: never) => unknown;

/**
 * Changes a model in place, while the hook runs. A target is a module of the model's tree, or one lent to it.
 * Each throws PatchRefusedError for another target, and for a replacement that cannot stand in for what it replaces.
 */
export interface Patches {
  /** Gives an instance a class that extends its own, or that its own extends. Refused for a class that sets fields: they would not be initialised. */
  swapClass(instance: object, Class: new (...args: never) => object, options?: PatchOptions): void;
  /** Puts `value` where `forward` finds it as `host[name]`, without making it a part of the tree: its owner stays another. */
  lend(host: object, name: string, value: object, options?: PatchOptions): void;
  /** Gives one instance another method. The unbound function: a bound one is a new identity on every layer, and multiplies graphs. */
  replaceMethod(instance: object, name: string, method: Method, options?: PatchOptions): void;
  /** Puts `wrap(child)` in the place of a child. It has the `forward`, parameters, buffers and modules that the child has. */
  wrapChild<Child extends object>(host: object, name: string, wrap: (child: Child) => object, options?: PatchOptions): void;
  /** Adds a field to an instance: a marker, a constant, or a buffer, which is then a part of the tree. Refused where there is a field already. */
  setField(instance: object, name: string, value: unknown, options?: PatchOptions): void;
  /** Tells the user why something was left as it is. The hook's record and an event carry it. Changes nothing. */
  warn(message: string): void;
}

/** The model that is patched, as the ledger sees it. */
export interface PatchedModel {
  /** The path of a part; null for an object that is not a part of the model. */
  pathOf(instance: object): string | null;
  /** The version of the plugin that brings the upstream class. */
  readonly upstreamVersion?: string | null | undefined;
}

interface Patch {
  readonly record: Omit<PatchRecord, 'read' | 'coveredBy'>;
  readonly instance: object;
  /** null: the class. */
  readonly name: string | null;
  /** The earlier patch whose place it takes. */
  readonly covers: Patch | undefined;
  read: boolean | null;
  /** Whether what the patch put there is still there. */
  intact(): boolean;
  undo(): void;
}

interface Change extends Pick<Patch, 'intact' | 'undo'> {
  readonly detail: string;
  /** The replacement uses what it replaces. */
  readonly keeps?: boolean;
}

type Refuse = (problem: string, fix: string) => never;

/** Every in-place change of one model: who, when, why, and how to undo it, last in first out. */
export class PatchLedger {
  private readonly lifecycle: Lifecycle;
  private patches: Patch[] = [];
  private nextId = 1;

  constructor(lifecycle: Lifecycle = new Lifecycle()) {
    this.lifecycle = lifecycle;
  }

  /** The patches that a hook may make, until `close`; `made` has the ids of those that it did make. */
  open(owner: PatchOwner, model: PatchedModel, hookReason: string | null = null) {
    let isOpen = true;
    const [warnings, made]: [string[], number[]] = [[], []];
    const apply = (
      operation: PatchOperation,
      change: (refuse: Refuse) => Change,
      options: PatchOptions | undefined,
      instance: object,
      name: string | null = null,
    ) => {
      this.lifecycle.require(`${operation} (${owner.hook})`, 'constructed', 'initialized', 'loaded', 'reloading');
      const target = name === null ? nameOf(instance) : `${nameOf(instance)}.${name}`;
      const refuse: Refuse = (problem, fix) => {
        throw new PatchRefusedError({ operation, target, problem, fix });
      };
      if (!isOpen) refuse(`the hook ${owner.hook} has ended`, 'patch while the hook runs, and await what it starts.');
      const place = model.pathOf(instance) ?? refuse(...outsideText(instance));
      const path = name === null ? place : place === '' ? name : `${place}.${name}`;
      expectNeeded(options ?? {}, model.upstreamVersion ?? null, refuse);
      const before = this.patches.findLast((patch) => patch.instance === instance && patch.name === name);
      const { detail, keeps = false, ...rest } = change(refuse);
      const { reason = hookReason, upstream = null, removeWhen = null, readBy = null } = options ?? {};
      const record = { id: this.nextId++, operation, target, path, detail, reason, upstream, removeWhen, readBy, ...owner };
      const covers = keeps ? undefined : before;
      this.patches.push({ record, instance, name, covers, read: null, ...rest });
      made.push(record.id);
      if (covers === undefined || covers.record.plugin === owner.plugin) return;
      warnings.push(
        `${patchText(record)} covers ${patchText(covers.record)} of plugin "${covers.record.plugin}" at ${path || 'the model'}.`,
      );
    };
    const patches: Patches = {
      swapClass: (at, Class, options) => apply('swapClass', (refuse) => swapClass(at, Class, refuse), options, at),
      lend: (at, name, value, options) => apply('lend', (refuse) => lend(at, name, value, refuse), options, at, name),
      replaceMethod: (at, name, method, options) =>
        apply('replaceMethod', (refuse) => replaceMethod(at, name, method, refuse), options, at, name),
      wrapChild: (at, name, wrap, options) => apply('wrapChild', (refuse) => wrapChild(at, name, wrap, refuse), options, at, name),
      setField: (at, name, value, options) => apply('setField', (refuse) => setField(at, name, value, refuse), options, at, name),
      warn: (message) => void warnings.push(message),
    };
    return { patches, warnings, made, close: () => void (isOpen = false) };
  }

  /** The entries as they are now; the result puts them back. The model is not touched: a snapshot restores it. */
  save(): () => void {
    const saved = [...this.patches];
    return () => void (this.patches = saved);
  }

  /**
   * Undoes the last patches until `count` are left in effect.
   * @throws PatchOverwrittenError for one that was changed again without the ledger, which stays with those before it; LifecycleError at `ready`.
   */
  undoTo(count: number): void {
    this.lifecycle.require('undoTo', 'constructed', 'initialized', 'loaded', 'reloading');
    while (this.patches.length > count) {
      const patch = this.patches.at(-1)!;
      if (!patch.intact()) throw new PatchOverwrittenError(patchText(patch.record));
      patch.undo();
      this.patches.pop();
    }
  }

  /**
   * Undoes these patches, which must be the last ones.
   * @throws PatchOrderError before anything is undone; PatchOverwrittenError.
   */
  undo(ids: ReadonlySet<number>): void {
    const first = this.patches.findIndex(({ record }) => ids.has(record.id));
    if (first < 0) return;
    const others = this.patches.slice(first).filter(({ record }) => !ids.has(record.id));
    const later = others.map(({ record }) => patchText(record));
    if (later.length > 0) throw new PatchOrderError(patchText(this.patches[first]!.record), later);
    this.undoTo(first);
  }

  /** Notes which patches a captured `forward` read: the property `key` of an object, or its class (null). */
  markRead(reads: Iterable<{ readonly object: object; readonly key: PropertyKey | null }>): void {
    const keys = new Map<object, Set<PropertyKey | null>>();
    for (const { object, key } of reads) keys.set(object, (keys.get(object) ?? new Set()).add(key));
    for (const patch of this.patches) patch.read = patch.read === true || keys.get(patch.instance)?.has(patch.name) === true;
  }

  /** The patches in effect, oldest first. */
  toJSON(): PatchRecord[] {
    const covering = new Map(this.patches.map(({ covers, record: { id, plugin } }) => [covers, { id, plugin }]));
    return this.patches.map((patch) => ({ ...patch.record, read: patch.read, coveredBy: covering.get(patch) ?? null }));
  }
}

function patchText({ id, operation, target }: Pick<PatchRecord, 'id' | 'operation' | 'target'>): string {
  return `patch ${id} (${operation} of ${target})`;
}

function nameOf(instance: object): string {
  if (typeof instance === 'function') return instance.name;
  const name = instance.constructor?.name ?? 'object';
  return isPrototype(instance) ? `${name}.prototype` : name;
}

function isPrototype(instance: object): boolean {
  return instance.constructor?.prototype === instance;
}

function outsideText(instance: object): [problem: string, fix: string] {
  if (typeof instance === 'function' || isPrototype(instance))
    return [`${nameOf(instance)} belongs to every model of the process`, 'patch an instance, or override the class.'];
  return [`this ${nameOf(instance)} is not a module of the model, nor lent to one`, 'attach it first, or set the field where it is built.'];
}

function expectNeeded({ removeWhen, upstream }: PatchOptions, version: string | null, refuse: Refuse): void {
  if (removeWhen === undefined) return;
  if (semver.validRange(removeWhen) === null) refuse(`removeWhen "${removeWhen}" is not a semver range`, 'write it like ">=0.2.0".');
  if (version === null || !semver.satisfies(version, removeWhen, { includePrerelease: true })) return;
  const link = upstream === undefined ? '' : `: ${upstream}`;
  refuse(`upstream is ${version}, which no longer needs it (removeWhen "${removeWhen}")`, `remove the patch${link}.`);
}

function swapClass(instance: object, Class: new (...args: never) => object, refuse: Refuse): Change {
  const before: object | null = Object.getPrototypeOf(instance);
  const after: object = Class.prototype;
  const [was, fix] = [nameOf(instance), 'swap in a class that extends it and only has methods, or wrap the child.'];
  const isBase = Object.prototype.isPrototypeOf.call(after, instance);
  const isSubclass = before !== null && Object.prototype.isPrototypeOf.call(before, after);
  if (!isBase && !isSubclass) refuse(`neither ${Class.name} nor ${was} extends the other`, fix);
  // What the instance already is was initialised when it was built.
  for (let at = after; at !== before && !isBase; at = Object.getPrototypeOf(at) as object)
    if (declaresFields(at.constructor))
      refuse(`${at.constructor.name} sets fields, which are not initialised on an instance of ${was}`, fix);
  if (!Object.hasOwn(instance, 'forward')) expectForward(instance, after, refuse);
  Object.setPrototypeOf(instance, after);
  return {
    detail: `${was} became ${Class.name}`,
    keeps: isSubclass,
    intact: () => Object.getPrototypeOf(instance) === after,
    undo: () => void Object.setPrototypeOf(instance, before),
  };
}

function lend(host: object, name: string, value: object, refuse: Refuse): Change {
  expectStandIn((host as Record<string, unknown>)[name], value, refuse);
  return define(host, name, { value, enumerable: false, configurable: true, writable: true }, `${nameOf(value)} was lent`);
}

function replaceMethod(instance: object, name: string, method: Method, refuse: Refuse): Change {
  const before = (instance as Record<string, unknown>)[name];
  const fix = 'give one function of the same kind, shared by all layers, that reads `this`.';
  if (typeof before !== 'function') return refuse(`${nameOf(instance)} has no method "${name}"`, fix);
  if (typeof method !== 'function') return refuse(`it was given ${typeof method}, not a function`, fix);
  if (method.name.startsWith('bound ')) refuse(`"${method.name}" is a bound function, a new identity on every layer`, fix);
  if (/^class\b/.test(sourceOf(method))) refuse(`${method.name} is a class, not a method`, fix);
  const [was, is] = [before, method].map((each) => each.constructor.name); // AsyncFunction: a caller does not await what was no promise
  if (was !== is) refuse(`the method is a ${was}, and what would replace it is a ${is}`, fix);
  if (name === 'forward') expectForward(instance, { forward: method }, refuse);
  const descriptor = { value: method, enumerable: false, configurable: true, writable: true };
  return define(instance, name, descriptor, `replaced by ${method.name || 'an unnamed function'}`);
}

function wrapChild<Child extends object>(host: object, name: string, wrap: (child: Child) => object, refuse: Refuse): Change {
  const descriptor = Object.getOwnPropertyDescriptor(host, name);
  const child: unknown = descriptor?.value;
  if (typeof child !== 'object' || child === null)
    return refuse(`${nameOf(host)} has no child "${name}"`, 'name a field that holds a module.');
  const wrapper = wrap(child as Child);
  expectStandIn(child, wrapper, refuse);
  return { ...define(host, name, { ...descriptor, value: wrapper }, `${nameOf(child)} was wrapped in ${nameOf(wrapper)}`), keeps: true };
}

function setField(instance: object, name: string, value: unknown, refuse: Refuse): Change {
  const fix = 'take another name, or replace what is there by lend, replaceMethod or wrapChild.';
  if (name in instance) refuse(`${nameOf(instance)} has a "${name}" already`, fix);
  const text = typeof value === 'object' && value !== null ? `a ${nameOf(value)}` : String(value);
  return define(instance, name, { value, enumerable: true, configurable: true, writable: true }, `set to ${text}`);
}

/** Methods that the rest of the model calls on a module of any class. */
const moduleMethods = ['forward', 'namedModules', 'namedParameters', 'namedBuffers'] as const;

function expectStandIn(before: unknown, after: unknown, refuse: Refuse): void {
  const fix = 'give a module with the same methods.';
  if (typeof after !== 'object' || after === null) refuse(`${after === null ? 'null' : typeof after} is not a module`, fix);
  if (typeof before !== 'object' || before === null) return;
  const missing = moduleMethods.filter((name) => methodOf(before, name) !== null && methodOf(after, name) === null);
  if (missing.length > 0) refuse(`${nameOf(after)} has no ${missing.join(', ')}, which ${nameOf(before)} has`, fix);
  expectForward(before, after, refuse);
}

function expectForward(before: object, after: object, refuse: Refuse): void {
  const [was, is] = [methodOf(before, 'forward'), methodOf(after, 'forward')];
  if (was === null || is === null || was.length === is.length || /^[^)]*\.\.\./.test(sourceOf(is))) return; // `...rest` takes any number
  refuse(`forward takes ${was.length} parameters, and what would replace it takes ${is.length}`, 'take what the callers pass.');
}

function methodOf(object: object, name: string): Method | null {
  const method = (object as Record<string, unknown>)[name];
  return typeof method === 'function' ? (method as Method) : null;
}

function sourceOf(method: object): string {
  return Function.prototype.toString.call(method);
}

function define(target: object, name: string, descriptor: PropertyDescriptor, detail: string): Change {
  const before = Object.getOwnPropertyDescriptor(target, name);
  Object.defineProperty(target, name, descriptor);
  return {
    detail,
    intact: () => Object.getOwnPropertyDescriptor(target, name)?.value === descriptor.value,
    undo: () => {
      if (before === undefined) Reflect.deleteProperty(target, name);
      else Object.defineProperty(target, name, before);
    },
  };
}
