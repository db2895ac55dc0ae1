import { nearestNames, quotedList } from '@graft/common';
import { declaresFields } from '@graft/services';
import semver from 'semver';
import type { Phase } from './hooks.ts';
import { Lifecycle } from './lifecycle.ts';
import { PatchOrderError, PatchOverwrittenError, PatchRefusedError } from './model-errors.ts';
import { propertiesOf } from './prototypes.ts';

export type PatchOperation = 'swapClass' | 'lend' | 'replaceMethod' | 'wrapChild' | 'setField';

export interface PatchOwner {
  readonly plugin: string;
  readonly hook: string;
  readonly phase: Phase;
}

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
  /** A link to the change of upstream that would make the patch superfluous. */
  upstream?: string;
  /**
   * The versions that do not need the patch, as a semver range: of the upstream plugin (`>=0.2.0`), or of Graft (`graft >=0.3.0`). The model does not
   * load with one of them.
   */
  removeWhen?: string;
  /** Who reads the patch, where `forward` does not: `the runner`. */
  readBy?: string;
}

type Method = (this: never, ...args: never) => unknown;

/**
 * Changes a model in place, while the hook runs. A target is a module of the model's tree, or one lent to it.
 * @throws PatchRefusedError for another target, and for a replacement that cannot stand in for the original.
 */
export interface Patches {
  /** Gives an instance a class that extends its own, or that its own extends. Refused for a class that sets fields: they would not be initialised. */
  swapClass(instance: object, Class: new (...args: never) => object, options?: PatchOptions): void;
  /** Makes `value` readable as `host[name]` without adding it to the tree: it keeps its owner. */
  lend(host: object, name: string, value: object, options?: PatchOptions): void;
  /** Gives one instance another method. Pass an unbound function: a bound one is a new identity on every layer, and multiplies graphs. */
  replaceMethod(instance: object, name: string, method: Method, options?: PatchOptions): void;
  /** Replaces a child by `wrap(child)`, which has the same `forward`, parameters, buffers and modules. */
  wrapChild<Child extends object>(host: object, name: string, wrap: (child: Child) => object, options?: PatchOptions): void;
  /** Adds a field to an instance: a marker, a constant, or a buffer, which joins the tree. Refused where the name is taken. */
  setField(instance: object, name: string, value: unknown, options?: PatchOptions): void;
  /** Tells the user why the hook left something as it is, through the hook's record and an event. Changes nothing. */
  warn(message: string): void;
}

export interface PatchedModel {
  /** The path of a part; null for an object that is not a part of the model. */
  pathOf(instance: object): string | null;
  readonly upstreamVersion?: string | null | undefined;
  readonly graftVersion?: string | null | undefined;
}

interface Patch {
  readonly record: Omit<PatchRecord, 'read' | 'coveredBy'>;
  readonly instance: object;
  /** null: the class. */
  readonly name: string | null;
  readonly before: PropertyDescriptor | undefined;
  readonly after: PropertyDescriptor;
  /** The earlier patch whose place it takes. */
  readonly covers: Patch | undefined;
  read: boolean | null;
}

/** A new state of the target. `keeps`: the replacement uses what it replaces. */
interface Change extends PropertyDescriptor {
  readonly detail: string;
  readonly keeps?: boolean;
}

type Refuse = (problem: string, fix: string) => never;

const patchable = ['constructed', 'initialized', 'loaded', 'reloading'] as const;

/** Every in-place change of one model: who, when, why, and how to undo it, last in first out. */
export class PatchLedger {
  private readonly lifecycle: Lifecycle;
  private patches: Patch[] = [];
  private nextId = 1;

  constructor(lifecycle: Lifecycle = new Lifecycle()) {
    this.lifecycle = lifecycle;
  }

  /** Opens the ledger for one hook, until `close`. `made` lists the ids of the patches that the hook made. */
  open(owner: PatchOwner, model: PatchedModel, hookReason: string | null = null) {
    let isOpen = true;
    const [warnings, made]: [string[], number[]] = [[], []];
    const apply = (operation: PatchOperation, instance: object, name: string | null, given: unknown, options: PatchOptions = {}) => {
      this.lifecycle.require(`${operation} (${owner.hook})`, ...patchable);
      const targetName = isObject(instance) ? nameOf(instance) : String(instance);
      const target = name === null ? targetName : `${targetName}.${name}`;
      const refuse: Refuse = (problem, fix) => {
        throw new PatchRefusedError({ operation, target, problem, fix });
      };
      if (!isOpen)
        refuse(`the hook ${owner.hook} of plugin "${owner.plugin}" has ended`, 'patch while the hook runs, and await what it starts.');
      if (!isObject(instance)) refuse(`its target is ${kindOf(instance)}`, 'give a module of the model.');
      const unknown = Object.keys(options).find((option) => !patchOptions.includes(option));
      if (unknown !== undefined) refuse(`it has no option "${unknown}"`, `the options are ${patchOptions.join(', ')}.`);
      const place = model.pathOf(instance) ?? refuse(...outsideText(instance));
      const path = name === null ? place : place === '' ? name : `${place}.${name}`;
      expectNeeded(options, model, refuse);
      const { detail, keeps = false, ...after } = changes[operation](instance, name!, given as never, refuse);
      const { reason = hookReason, upstream = null, removeWhen = null, readBy = null } = options;
      const record = { id: this.nextId++, operation, target, path, detail, reason, upstream, removeWhen, readBy, ...owner };
      const covers = keeps ? undefined : this.patches.findLast((patch) => patch.instance === instance && patch.name === name);
      this.patches.push({ record, instance, name, before: stateOf(instance, name), after, covers, read: null });
      made.push(record.id);
      put(instance, name, after);
      if (covers === undefined || covers.record.plugin === owner.plugin) return;
      warnings.push(`${patchText(record)} covers ${patchText(covers.record)} at ${path || 'the model'}.`);
    };
    const patches: Patches = {
      swapClass: (instance, Class, options) => apply('swapClass', instance, null, Class, options),
      lend: (host, name, value, options) => apply('lend', host, name, value, options),
      replaceMethod: (instance, name, method, options) => apply('replaceMethod', instance, name, method, options),
      wrapChild: (host, name, wrap, options) => apply('wrapChild', host, name, wrap, options),
      setField: (instance, name, value, options) => apply('setField', instance, name, value, options),
      warn: (message) => void warnings.push(message),
    };
    return { patches, warnings, made, close: () => void (isOpen = false) };
  }

  /** Saves the entries, without the model: a snapshot restores that. The result puts them back. */
  save(): () => void {
    const saved = [...this.patches];
    return () => void (this.patches = saved);
  }

  /**
   * Undoes the last patches until `count` are left in effect.
   * @throws PatchOverwrittenError for a patch whose target was changed again without the ledger: it and the earlier ones stay. LifecycleError at `ready`.
   */
  undoTo(count: number): void {
    this.lifecycle.require('undoTo', ...patchable);
    while (this.patches.length > count) {
      const { record, instance, name, before, after } = this.patches.at(-1)!;
      if (stateOf(instance, name)?.value !== after.value) throw new PatchOverwrittenError(patchText(record));
      put(instance, name, before);
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
    const [{ record }, ...later] = this.patches.slice(first) as [Patch, ...Patch[]];
    const others = later.filter((patch) => !ids.has(patch.record.id)).map((patch) => patchText(patch.record));
    if (others.length > 0) throw new PatchOrderError(patchText(record), others);
    this.undoTo(first);
  }

  /** Notes which patches a captured `forward` read: the property `key` of an object, or its class (null). */
  markRead(reads: Iterable<{ readonly object: object; readonly key: PropertyKey | null }>): void {
    const keys = new Map<object, Set<PropertyKey | null>>();
    for (const { object, key } of reads) keys.set(object, (keys.get(object) ?? new Set()).add(key));
    for (const patch of this.patches) patch.read = patch.read === true || keys.get(patch.instance)?.has(patch.name) === true;
  }

  toJSON(): PatchRecord[] {
    const covering = new Map(this.patches.map(({ covers, record: { id, plugin } }) => [covers, { id, plugin }]));
    return this.patches.map((patch) => ({ ...patch.record, read: patch.read, coveredBy: covering.get(patch) ?? null }));
  }
}

/** The class of an instance (name null), or one of its own properties. */
function stateOf(instance: object, name: string | null): PropertyDescriptor | undefined {
  return name === null ? { value: Object.getPrototypeOf(instance) } : Object.getOwnPropertyDescriptor(instance, name);
}

function put(instance: object, name: string | null, state: PropertyDescriptor | undefined): void {
  if (name === null) Object.setPrototypeOf(instance, state!.value);
  else if (state === undefined) Reflect.deleteProperty(instance, name);
  else Object.defineProperty(instance, name, state);
}

function patchText({ id, operation, target, plugin }: Pick<PatchRecord, 'id' | 'operation' | 'target' | 'plugin'>): string {
  return `patch ${id} (${operation} of ${target}) of plugin "${plugin}"`;
}

const patchOptions: readonly string[] = ['reason', 'upstream', 'removeWhen', 'readBy'];

const isObject = (value: unknown): boolean => (typeof value === 'object' && value !== null) || typeof value === 'function';

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

function expectNeeded({ removeWhen, upstream }: PatchOptions, versions: RemovalVersions, refuse: Refuse): void {
  if (removeWhen === undefined) return;
  const { range } = readRemoval(removeWhen);
  if (semver.validRange(range) === null)
    refuse(`removeWhen "${removeWhen}" is not a semver range`, 'write it like ">=0.2.0", or "graft >=0.2.0".');
  const reason = outgrown(removeWhen, versions);
  if (reason !== null) refuse(reason, `remove the patch${upstream === undefined ? '' : `: ${upstream}`}.`);
}

type RemovalVersions = Pick<PatchedModel, 'upstreamVersion' | 'graftVersion'>;

function readRemoval(removeWhen: string): { ofGraft: boolean; range: string } {
  const [, range] = /^graft\s+(.*)$/i.exec(removeWhen) ?? [];
  return { ofGraft: range !== undefined, range: range ?? removeWhen };
}

/** Why a patch is no longer needed; null while it is. */
export function outgrown(removeWhen: string, { upstreamVersion, graftVersion }: RemovalVersions): string | null {
  const { ofGraft, range } = readRemoval(removeWhen);
  const version = (ofGraft ? graftVersion : upstreamVersion) ?? null;
  if (version === null || !semver.satisfies(version, range, { includePrerelease: true })) return null;
  return `${ofGraft ? 'Graft' : 'upstream'} is ${version}, which no longer needs it (removeWhen "${removeWhen}")`;
}

const hidden = { enumerable: false, configurable: true, writable: true };

/** Each operation, as the state that the target gets. Nothing is changed yet. */
const changes: Record<PatchOperation, (target: object, name: string, given: never, refuse: Refuse) => Change> = {
  swapClass(instance, _, Class: new (...args: never) => object, refuse) {
    const before: object | null = Object.getPrototypeOf(instance);
    const [was, fix] = [nameOf(instance), 'swap in a class that extends it and only has methods, or wrap the child.'];
    const after =
      ((Class as typeof Class | null | undefined)?.prototype as object | undefined) ?? refuse(`${kindOf(Class)} is not a class`, fix);
    const isBase = Object.prototype.isPrototypeOf.call(after, instance);
    const isSubclass = before !== null && Object.prototype.isPrototypeOf.call(before, after);
    if (!isBase && !isSubclass) refuse(`neither ${Class.name} nor ${was} extends the other`, fix);
    // The fields of its own class were initialised when the instance was built.
    for (let at = after; at !== before && !isBase; at = Object.getPrototypeOf(at) as object)
      if (declaresFields(at.constructor))
        refuse(`${at.constructor.name} sets fields, which are not initialised on an instance of ${was}`, fix);
    if (!Object.hasOwn(instance, 'forward')) expectForward(instance, after, refuse);
    return { value: after, detail: `${was} became ${Class.name}`, keeps: isSubclass };
  },

  lend(host, name, value: object, refuse) {
    expectStandIn((host as Record<string, unknown>)[name], value, refuse);
    return { value, ...hidden, detail: `${nameOf(value)} was lent` };
  },

  replaceMethod(instance, name, method: Method, refuse) {
    const before = (instance as Record<string, unknown>)[name];
    const fix = 'give one function of the same kind, shared by all layers, that reads `this`.';
    if (typeof before !== 'function')
      return refuse(`${nameOf(instance)} has no method "${name}"`, `write ${quotedList(nearestNames(name, methodsOf(instance), 1))}.`);
    if (typeof method !== 'function') return refuse(`it was given ${kindOf(method)}, not a function`, fix);
    if (method.name.startsWith('bound ')) refuse(`"${method.name}" is a bound function, a new identity on every layer`, fix);
    if (/^class\b/.test(sourceOf(method))) refuse(`${method.name} is a class, not a method`, fix);
    const [was, is] = [before, method].map((each) => each.constructor.name); // callers do not await a method that was not async
    if (was !== is) refuse(`the method is of kind ${was}, and its replacement of kind ${is}`, fix);
    if (name === 'forward') expectForward(instance, { forward: method }, refuse);
    if (isArrow(method))
      refuse(`${method.name || 'it'} is an arrow function, which has no \`this\``, `write \`function ${name}(...) { ... }\`.`);
    return { value: method, ...hidden, detail: `replaced by ${method.name || 'an unnamed function'}` };
  },

  wrapChild(host, name, wrap: (child: object) => object, refuse) {
    const descriptor = Object.getOwnPropertyDescriptor(host, name);
    const child: unknown = descriptor?.value;
    if (typeof child !== 'object' || child === null) {
      const children = Object.entries(host).flatMap(([field, value]) => (typeof value === 'object' && value !== null ? [field] : []));
      const fix = children.length === 0 ? 'name a field that holds a module.' : `write ${quotedList(nearestNames(name, children, 1))}.`;
      return refuse(`${nameOf(host)} has no child "${name}"`, fix);
    }
    if (typeof wrap !== 'function') return refuse(`it was given ${kindOf(wrap)}, not a function`, 'give a function that takes the child.');
    const value = wrap(child);
    expectStandIn(child, value, refuse);
    return { ...descriptor, value, detail: `${nameOf(child)} was wrapped in ${nameOf(value)}`, keeps: true };
  },

  setField(instance, name, value: unknown, refuse) {
    const fix = 'take another name, or use lend, replaceMethod or wrapChild.';
    if (name in instance) refuse(`${nameOf(instance)} already has a "${name}"`, fix);
    const text = typeof value === 'object' && value !== null ? `a ${nameOf(value)}` : String(value);
    return { value, ...hidden, enumerable: true, detail: `set to ${text}` };
  },
};

/** Methods that the rest of the model calls on a module of any class. */
const moduleMethods = ['forward', 'namedModules', 'namedParameters', 'namedBuffers'] as const;

function expectStandIn(before: unknown, after: unknown, refuse: Refuse): void {
  const fix = 'give a module with the same methods.';
  if (typeof after !== 'object' || after === null) refuse(`${kindOf(after)} is not a module`, fix);
  if (typeof before !== 'object' || before === null) return;
  const missing = moduleMethods.filter((name) => methodOf(before, name) !== null && methodOf(after, name) === null);
  if (missing.length > 0) refuse(`${nameOf(after)} lacks ${missing.join(', ')} of ${nameOf(before)}`, fix);
  expectForward(before, after, refuse);
}

function expectForward(before: object, after: object, refuse: Refuse): void {
  const [was, is] = [methodOf(before, 'forward'), methodOf(after, 'forward')];
  if (was === null || is === null || was.length === is.length || /^[^)]*\.\.\./.test(sourceOf(is))) return; // `...rest` takes any number
  refuse(`forward takes ${was.length} parameters, and its replacement takes ${is.length}`, 'take what the callers pass.');
}

function methodsOf(instance: object): string[] {
  return [...propertiesOf(instance)].flatMap(([name, { value }]) => (typeof value === 'function' && name !== 'constructor' ? [name] : []));
}

function methodOf(object: object, name: string): Method | null {
  const method = (object as Record<string, unknown>)[name];
  return typeof method === 'function' ? (method as Method) : null;
}

const kindOf = (value: unknown): string => (value === null ? 'null' : isArrow(value) ? 'an arrow function' : typeof value);

/** Arrow functions have no prototype, and neither have methods and async functions. */
function isArrow(value: unknown): boolean {
  if (typeof value !== 'function' || 'prototype' in value) return false;
  return /^(?:async\s*)?(?:\(|[\w$]+\s*=>)/.test(sourceOf(value));
}

function sourceOf(method: object): string {
  return Function.prototype.toString.call(method);
}
