import { GraftError, nearestNames, quotedList } from '@graft/common';
import type { Build } from './build.ts';
import { ContractBrokenError, type ContractReport, checkContract } from './contract.ts';
import {
  ConstructionFailedError,
  OverrideShapeError,
  OverrideUnusedError,
  PartUndeclaredError,
  RegistrationConflictError,
} from './errors.ts';
import type { ClassLoader } from './load-class.ts';
import type { AnyClass, ClassFactory, InspectableModel } from './model.ts';
import type { DeclaredClass, OverrideEntry } from './registration.ts';
import type { Candidate, Resolution } from './resolution.ts';
import { chainOf, classRecord, type ResolvedClass, unscoped } from './resolve.ts';

/** All that a resolution stands for, with the registry's own entries. */
export interface ResolvedEntries {
  readonly resolution: Resolution;
  readonly model: ResolvedClass;
  readonly layers: readonly ResolvedClass[];
  /** Architectures with overrides here that the model does not say it contains. */
  readonly elsewhere: ReadonlySet<string>;
  readonly requireOverride: boolean;
  /** Those that the loaded plugins bring; null where they are not known. */
  readonly platforms: readonly string[] | null;
}

interface Imported {
  readonly classes: ReadonlyMap<DeclaredClass, AnyClass>;
  readonly overrides: ReadonlyMap<OverrideEntry, AnyClass | ClassFactory>;
  readonly family: object | null;
}

/** The imported classes of a resolution. `build` constructs the one that serves; each instance is recorded with what replaced it. */
export class ServingClasses<Context = never, Model extends object = object, Family extends object = object> {
  readonly Model: new (
    context: Context,
  ) => Model;
  /** The `family` of the model's declaration; null where it has none. */
  readonly family: Family | null;
  private readonly entries: ResolvedEntries;
  private readonly loader: ClassLoader;
  private readonly classes: Imported['classes'];
  private readonly imported: Imported['overrides'];
  private readonly overridden = new Map<AnyClass, ResolvedClass>();
  private readonly contracts = new Map<OverrideEntry, ContractReport>();
  /** The classes under construction, outermost first, as they were passed to `build`. */
  private readonly stack: AnyClass[] = [];
  private readonly seen = new Set<AnyClass>();
  private built: { readonly instance: object; readonly entries: readonly OverrideEntry[] }[] = [];
  private replaced: ReadonlyMap<OverrideEntry, NonNullable<Candidate['replaced']>> | null = null;

  private constructor(entries: ResolvedEntries, loader: ClassLoader, { classes, overrides, family }: Imported) {
    this.entries = entries;
    this.loader = loader;
    this.classes = classes;
    this.imported = overrides;
    this.family = family as Family | null;
    for (const one of [entries.model, ...entries.layers]) {
      const Class = classes.get(one.target);
      if (Class === undefined) continue;
      this.overridden.set(Class, one);
      this.serving(Class, unscoped(one)); // a factory that fails does so here, not amid a construction
    }
    const { model } = entries;
    const Model = this.serving(this.upstreamOf(model.target), unscoped(model));
    this.overridden.set(Model, model); // `build(classes.Model, context)` is a construction of the model too
    this.Model = Model as unknown as typeof this.Model;
  }

  /** Imports what may serve, and nothing else. @throws ModuleFailedError, NotAModelClassError, OverrideBaseError, OverrideShapeError */
  static async load<Context, Model extends object, Family extends object>(
    entries: ResolvedEntries,
    loader: ClassLoader,
  ): Promise<ServingClasses<Context, Model, Family>> {
    const resolvedClasses = [entries.model, ...entries.layers.filter(({ applicable }) => applicable.length > 0)];
    const scopes = resolvedClasses.flatMap(({ applicable }) => applicable.flatMap(({ within }) => within));
    const classes = new Map<DeclaredClass, AnyClass>();
    const overrides = new Map<OverrideEntry, AnyClass | ClassFactory>();
    for (const target of new Set([...resolvedClasses.map(({ target }) => target), ...scopes])) {
      classes.set(target, await loader.upstream(target));
    }
    for (const { target, applicable } of resolvedClasses) {
      for (const entry of applicable) overrides.set(entry, await loader.override(entry, classes.get(target)!));
    }
    const family = await loader.family(entries.model.target);
    return new ServingClasses(entries, loader, { classes, overrides, family });
  }

  readonly build: Build = (Class, ...args) => {
    if (typeof Class !== 'function') {
      const cause = new TypeError('context.build was given something that is not a class.');
      throw new ConstructionFailedError(String(Class), this.stack, cause);
    }
    const one = this.overridden.get(Class);
    if (one === undefined && this.entries.elsewhere.has(Class.name)) throw new PartUndeclaredError(this.entries.model.target, Class.name);
    const here = one?.applicable.filter(({ within }) => within.length === 0 || this.isWithin(within, this.stack)) ?? []; // by rising priority
    for (const [index, entry] of here.entries()) {
      const below = here[index - 1];
      if (below?.priority === entry.priority) throw new RegistrationConflictError(below, entry, [...this.stack, Class]);
    }
    const entries = chainOf(here);
    const Serving = one === undefined ? Class : this.serving(this.upstreamOf(one.target), entries);
    this.stack.push(Class);
    this.seen.add(Class);
    try {
      const instance = new (Serving as AnyClass)(...args);
      if (entries.length > 0) this.built.push({ instance, entries });
      return instance as InstanceType<typeof Class>;
    } catch (cause) {
      const within = this.stack.slice(0, -1);
      if (!GraftError.is(cause)) throw new ConstructionFailedError(Serving.name, within, cause, entries.at(-1)?.owner);
      throw cause.where === undefined ? cause.at([...within, Serving].map(({ name }) => name).join(' > ')) : cause;
    } finally {
      this.stack.pop();
    }
  };

  /**
   * Builds the model. The drift contracts of all overrides are checked against it: before weights are read, and before a hook meets what is gone.
   * @param context whose `build` is this object's.
   * @throws ContractBrokenError with every breach; where the constructor threw too, with that as its cause. OverrideUnusedError. ConstructionFailedError.
   * RegistrationConflictError where the scopes of two overrides of one priority meet.
   */
  async construct(context: Context): Promise<Model> {
    this.built = [];
    const early = await this.checkContracts();
    let model: Model;
    try {
      model = this.build(this.Model as unknown as AnyClass, context as never) as Model;
    } catch (cause) {
      // A constructor that fails on what upstream no longer has is explained by the contract.
      expectKept(early, cause);
      throw cause;
    }
    expectKept(await this.checkContracts());
    this.recordReplaced(model);
    return model;
  }

  /**
   * Checks each `reliesOn` as far as that goes with what was built so far. `resolution` has the results.
   * @throws ManifestInvalidError
   */
  async checkContracts(): Promise<readonly ContractReport[]> {
    for (const entry of this.imported.keys()) {
      if (entry.reliesOn === null) continue;
      const upstreamClass = this.upstreamOf(entry.target);
      const chain = unscoped(this.overridden.get(upstreamClass)!);
      const below = chain.slice(0, Math.max(chain.indexOf(entry), 0));
      const base = entry.kind === 'factory' ? this.serving(upstreamClass, below) : upstreamClass;
      const instance = this.built.find(({ entries }) => entries.includes(entry))?.instance ?? null;
      this.contracts.set(entry, await checkContract({ ...entry, reliesOn: entry.reliesOn, upstreamClass, base }, instance));
    }
    return [...this.contracts.values()];
  }

  /** Signs of a mistake that is no error: a platform that no plugin brings, and parts that `new` built where overrides serve. */
  warnings(model: object): string[] {
    const { resolution, platforms } = this.entries;
    const all = [this.entries.model, ...this.entries.layers];
    const declared = all.flatMap(({ rows, target }) =>
      rows.flatMap(({ entry }) => (entry ? [{ ...entry.owner, platform: entry.platform, of: target.name }] : [])),
    );
    const unknown = [...declared, ...resolution.hooks].flatMap(({ plugin, platform, of }) => {
      if (platforms?.includes(platform) !== false) return [];
      const nearest = quotedList(nearestNames(platform, platforms, 1));
      return [`Plugin "${plugin}" changes ${of} on platform "${platform}", which no loaded plugin brings (nearest: ${nearest}).`];
    });
    const built = new Set(this.built.map(({ instance }) => instance));
    const modules = [...((model as Partial<InspectableModel>).namedModules?.() ?? [])];
    const missed = modules.flatMap(([path, module]) => {
      const one = built.has(module) ? undefined : this.overridden.get(module.constructor as AnyClass);
      return one === undefined || unscoped(one).length === 0
        ? []
        : [`${path} is ${one.target.name}, which \`new\` built: no override reaches it. Write \`build(${one.target.name}, ...)\`.`];
    });
    return [...unknown, ...missed];
  }

  /** The resolution with what is known by now: the names of classes, the results of contracts, the instances that each override replaced. */
  get resolution(): Resolution {
    const [model, ...layers] = [this.entries.model, ...this.entries.layers].map((one) =>
      classRecord(one, (entry) => this.outcomeOf(one, entry)),
    );
    return deepFreeze({ ...this.entries.resolution, chain: model!.chain, candidates: model!.candidates, layers });
  }

  private upstreamOf(target: DeclaredClass): AnyClass {
    return this.classes.get(target)!;
  }

  /** Whether one of `built` is one of the classes of `within`, or extends it. */
  private isWithin(within: readonly DeclaredClass[], built: Iterable<AnyClass>): boolean {
    const Classes = within.map((target) => this.upstreamOf(target));
    return [...built].some((one) => Classes.some((Class) => one === Class || one.prototype instanceof Class));
  }

  private serving(Upstream: AnyClass, entries: readonly OverrideEntry[]): AnyClass {
    return entries.reduce((Base, entry) => {
      const Class = this.imported.get(entry)!;
      return entry.kind === 'subclass' ? (Class as AnyClass) : this.loader.apply(Class as ClassFactory, Base, entry);
    }, Upstream);
  }

  private outcomeOf(one: ResolvedClass, entry: OverrideEntry | null): Partial<Candidate> {
    const Upstream = this.classes.get(one.target);
    if (entry === null) return { className: Upstream?.name ?? null };
    if (!this.imported.has(entry) || Upstream === undefined) return this.replaced === null ? {} : { replaced: nothing };
    const chain = unscoped(one);
    const at = chain.indexOf(entry);
    const className = this.serving(Upstream, at < 0 ? [entry] : chain.slice(0, at + 1)).name;
    const contract = this.contracts.get(entry);
    return {
      className,
      ...(contract && { contract: contract.state, contractNotes: [...contract.breaches, ...contract.notChecked] }),
      ...(this.replaced !== null && { replaced: this.replaced.get(entry) ?? nothing }),
    };
  }

  private recordReplaced(model: object): void {
    const paths = new Map([...((model as Partial<InspectableModel>).namedModules?.() ?? [])].map(([path, module]) => [module, path]));
    const replaced = new Map<OverrideEntry, { count: number; paths: string[] }>();
    for (const { instance, entries } of this.built) {
      const path = paths.get(instance) ?? (instance === model ? '' : undefined);
      for (const entry of entries) {
        const record = replaced.get(entry) ?? { count: 0, paths: [] };
        if (record.count === 0) expectMethods(instance, this.upstreamOf(entry.target), entry);
        record.count += 1;
        if (path !== undefined) record.paths.push(path);
        replaced.set(entry, record);
      }
    }
    this.replaced = replaced;
    this.expectUsed(replaced);
  }

  private expectUsed(replaced: ReadonlyMap<OverrideEntry, unknown>): void {
    const { model, layers, requireOverride, platforms, resolution } = this.entries;
    if (requireOverride && replaced.size === 0) throw OverrideUnusedError.ofAll(this.resolution);
    for (const { rows } of [model, ...layers]) {
      for (const { entry, record } of rows) {
        if (entry === null || !entry.required || replaced.has(entry)) continue;
        const isOfOtherModels = entry.within.length > 0 && entry.within.every(({ kind }) => kind === 'model');
        if (isOfOtherModels && !this.isWithin(entry.within, this.seen)) continue;
        const isUnknown = resolution.platform !== null && platforms?.includes(entry.platform) === false;
        if (isUnknown || !['other-platform', 'other-mode', 'without'].includes(record.reason)) throw new OverrideUnusedError(entry, record);
      }
    }
  }
}

const nothing = { count: 0, paths: [] };

function expectKept(reports: readonly ContractReport[], cause?: unknown): void {
  const broken = reports.filter(({ state }) => state === 'broken');
  if (broken.length > 0) throw new ContractBrokenError(broken, cause);
}

/** A field of the instance may hide a method of its class. */
function expectMethods(instance: object, Upstream: AnyClass, entry: OverrideEntry): void {
  for (const [name, { value }] of Object.entries(Object.getOwnPropertyDescriptors(instance))) {
    const method: unknown = (Upstream.prototype as Record<string, unknown>)[name];
    if (typeof method === 'function' && typeof value !== 'function') {
      throw new OverrideShapeError(entry, instance.constructor.name, [`"${name}" is a field, and a method of ${Upstream.name}`]);
    }
  }
}

export function deepFreeze<T>(value: T): T {
  if (typeof value === 'object' && value !== null && !Object.isFrozen(value)) {
    Object.freeze(value);
    for (const child of Object.values(value)) deepFreeze(child);
  }
  return value;
}
