import { meantNames } from '@graft/common';
import type { Owner } from '@graft/services';
import {
  ArchitectureConflictError,
  CapabilityUnknownError,
  OverrideUnusedError,
  OverrideWithoutUpstreamError,
  RegistrationConflictError,
  RetiredArchitectureError,
  TargetAmbiguousError,
  TargetModeError,
  UnknownArchitectureError,
  WithoutUnknownError,
} from './errors.ts';
import { ClassLoader } from './load-class.ts';
import type { LazyClass, LazyModel } from './model.ts';
import type { Platform } from './platform.ts';
import type { ModelDeclaration, OverrideDeclaration, PluginHook, ReliesOn, RetiredArchitecture } from './plugin.ts';
import { hookSchema, layersSchema, modelSchema, overrideSchema, parseDeclared, resolveSchema, retiredSchema } from './plugin.ts';
import { type DeclaredClass, type OverrideEntry, qualifiedName } from './registration.ts';
import type { Resolution } from './resolution.ts';
import type { RegisteredHook, ResolveContext, ResolvedClass } from './resolve.ts';
import { classRecord, conflicts, overrideName, resolveClass, resolveHook, unscoped } from './resolve.ts';
import { deepFreeze, type ResolvedEntries, ServingClasses } from './serving-classes.ts';

/** Version and manifest are the upstream package's, for the drift contracts of overrides. */
export type RegisterOptions = Omit<ModelDeclaration, 'architecture' | 'model'> & DeclaredBy;
type DeclaredBy = Partial<Pick<DeclaredClass, 'owner' | 'version' | 'manifest'>>;

type Without<T, Key extends PropertyKey> = T extends unknown ? Omit<T, Key> : never;
export type OverrideOptions = Without<OverrideDeclaration, 'of'> & { owner?: Owner };

export interface ArchitectureListing extends Pick<DeclaredClass, 'owner' | 'capabilities'> {
  readonly architecture: string;
  readonly overrides: readonly Pick<OverrideEntry, 'platform' | 'priority' | 'kind' | 'owner'>[];
}

const registrationText = (entry: OverrideEntry | RegisteredHook): string =>
  'target' in entry ? `An override of ${entry.target.name}` : `A hook of phase ${entry.phase}`;

const application: Owner = { plugin: 'application', file: null };

/** All that is registered. Nothing in it is ever changed: each change replaces it, so that an older one is a snapshot. */
interface RegistryState {
  readonly declared: readonly DeclaredClass[];
  readonly overrides: readonly OverrideEntry[];
  readonly hooks: readonly RegisteredHook[];
  readonly retired: ReadonlyMap<string, RetiredArchitecture>;
}

export interface Surroundings {
  loadedPlugins?: () => readonly string[];
  platforms?: () => readonly Platform[];
}

/**
 * Which class serves an architecture, and each part of it, on a platform. Registering, listing and resolving import no model code; `load` does.
 * Wrong arguments throw RegistrationInvalidError.
 */
export class ModelRegistry {
  private state: RegistryState = { declared: [], overrides: [], hooks: [], retired: new Map() };
  private readonly loader = new ClassLoader();
  private readonly entries = new WeakMap<Resolution, Omit<ResolvedEntries, 'resolution'>>();
  private readonly surroundings: Surroundings;

  constructor(surroundings: Surroundings = {}) {
    this.surroundings = surroundings;
  }

  /** Registers an upstream class for an architecture. @throws ArchitectureConflictError when it has one already. */
  register(architecture: string, model: LazyModel, options: RegisterOptions = {}): void {
    const { owner = application, version = null, manifest = null, ...more } = options;
    const declared = parseDeclared('register', modelSchema, { architecture, model, ...more }, owner);
    const { capabilities = {}, family = null, contains = [] } = declared;
    this.declare({ kind: 'model', name: architecture, owner, load: model as LazyClass, family, capabilities, contains, version, manifest });
  }

  /**
   * Declares a part of models that may be overridden. Two plugins may use one name: `plugin/Name` then tells them apart.
   * @throws ArchitectureConflictError when this plugin has that name already.
   */
  layer(name: string, load: LazyClass, { owner = application, version = null, manifest = null }: DeclaredBy = {}): void {
    parseDeclared('layer', layersSchema, { [name]: load }, owner);
    this.declare({ kind: 'layer', name, owner, load, family: null, capabilities: {}, contains: [], version, manifest });
  }

  /**
   * Registers an override of a class on a platform. The upstream class stays reachable through `upstreamOf`.
   * @param of an architecture or a layer, as `Name` or `plugin/Name`.
   * @throws OverrideWithoutUpstreamError, TargetAmbiguousError for a name; RegistrationConflictError at an equal priority; TargetModeError;
   * CapabilityUnknownError.
   */
  override(of: string, { owner = application, ...options }: OverrideOptions): void {
    const { model, factory, within = [], ...given } = parseDeclared('override', overrideSchema, { of, ...options }, owner);
    const defaults = { priority: 0, modes: null, when: null, required: false, capabilities: {} };
    const entry: OverrideEntry = {
      ...defaults,
      ...given,
      reliesOn: isEmpty(given.reliesOn) ? null : given.reliesOn!,
      kind: factory === undefined ? 'subclass' : 'factory',
      target: this.declaredAs(of, owner, 'An override'),
      owner,
      load: (factory ?? model)!,
      within: within.map((name) => this.declaredAs(name, owner, `The scope of an override of ${of}`)),
    };
    this.checkModes(entry);
    for (const key of Object.keys(entry.capabilities))
      if (!Object.hasOwn(entry.target.capabilities, key)) throw new CapabilityUnknownError(entry, key);
    // Which of two conditions holds is known at `resolve` alone, which checks again.
    const rival = this.state.overrides.find((other) => conflicts(other, entry) && other.when === null && entry.when === null);
    if (rival !== undefined) throw new RegistrationConflictError(rival, entry);
    this.change({ overrides: [...this.state.overrides, entry] });
  }

  /** Registers a plugin's hook, so that a resolution lists it. @throws as `override` for its names. */
  hook(hook: PluginHook, name: string, owner: Owner = application): void {
    parseDeclared('hook', hookSchema, hook, owner);
    const entry: RegisteredHook = { ...hook, owner, name };
    if (hook.of !== '*') this.declaredAs(hook.of, owner, registrationText(entry));
    this.checkModes(entry);
    this.change({ hooks: [...this.state.hooks, entry] });
  }

  /** Records where a name went, so that asking for it says so. Of several notes the last counts. */
  retire(name: string, facts: RetiredArchitecture): void {
    parseDeclared('retire', retiredSchema, { [name]: facts }, application);
    this.change({ retired: new Map([...this.state.retired, [name, facts]]) });
  }

  /** Checks the modes of what was registered before a platform was. @throws TargetModeError */
  checkPlatform({ name }: Platform): void {
    for (const entry of [...this.state.overrides, ...this.state.hooks]) if (entry.platform === name) this.checkModes(entry);
  }

  /** Runs `change`; when it throws, the registry is as it was before. */
  transaction<R>(change: () => R): R {
    const before = this.state;
    try {
      return change();
    } catch (error) {
      this.state = before;
      throw error;
    }
  }

  /** The class that is declared under a name, short or qualified; null where that is none or several. */
  declared(of: string): LazyClass | null {
    const [only, ...others] = this.declaredNamed(of);
    return only === undefined || others.length > 0 ? null : only.load;
  }

  /** Every registered architecture with its overrides, in the order of registration. */
  list(): ArchitectureListing[] {
    const models = this.state.declared.filter(({ kind }) => kind === 'model');
    return models.map((target) => {
      const { name: architecture, owner, capabilities } = target;
      return { architecture, owner, capabilities, overrides: this.overridesOf(target) };
    });
  }

  /** The families of all models that have one, by architecture. Imports every family. @throws ModuleFailedError */
  async families<Family extends object>(): Promise<ReadonlyMap<string, Family>> {
    const families = new Map<string, Family>();
    for (const target of this.state.declared) {
      const family = await this.loader.family(target);
      if (family !== null) families.set(target.name, family as Family);
    }
    return families;
  }

  /** The upstream classes of an architecture, whatever overrides them. @throws UnknownArchitectureError, RetiredArchitectureError. */
  upstreamOf(architecture: string): Resolution {
    return this.resolve([architecture], { platform: null });
  }

  /**
   * The classes that serve the first known name in `architectures` (as in config.json) on a platform, and why each other candidate does not.
   * @throws UnknownArchitectureError with the nearest names; RetiredArchitectureError where the names were retired; WithoutUnknownError;
   * RegistrationConflictError, OverrideConditionError where a `when` decides; OverrideUnusedError for `requireOverride`.
   */
  resolve(architectures: readonly string[], context: ResolveContext): Resolution {
    parseDeclared('resolve', resolveSchema, { architectures, ...context }, application);
    const { platform, mode = null, without = [], requireOverride = false } = context;
    const known = architectures.findIndex((name) => this.modelNamed(name) !== undefined);
    if (known < 0) throw this.unknown(architectures);
    const target = this.modelNamed(architectures[known]!)!;
    for (const name of without) this.checkWithout(name);

    const platforms = this.surroundings.platforms?.().map(({ name }) => name) ?? null;
    const facts = { ...context, knownPlatforms: platforms };
    const resolved = (one: DeclaredClass): ResolvedClass => resolveClass(one, this.overridesOf(one), facts);
    const model = resolved(target);
    const isPart = ({ kind, name }: DeclaredClass): boolean => kind === 'layer' || target.contains.includes(name);
    const isShown = (entry: OverrideEntry): boolean => entry.platform === platform || platforms?.includes(entry.platform) === false;
    const layers = this.state.declared.filter((one) => one !== target && isPart(one) && this.overridesOf(one).some(isShown)).map(resolved);
    const onPlatform = this.state.overrides.filter((entry) => entry.platform === platform).map((entry) => entry.target);
    const elsewhere = onPlatform.filter((one) => one !== target && !isPart(one)).map(({ name }) => name);
    const isServed = (of: string): boolean => this.declaredNamed(of).some((one) => one === target || one.kind === 'layer');
    const hooks = this.state.hooks.filter(({ of }) => of === '*' || isServed(of));
    const { chain, candidates } = classRecord(model);
    const resolution: Resolution = deepFreeze({
      version: 2,
      requested: [...architectures],
      architecture: target.name,
      platform,
      mode,
      without: [...without],
      capabilities: Object.assign({}, target.capabilities, ...unscoped(model).map(({ capabilities }) => capabilities)),
      passedOver: architectures.slice(0, known).map((name) => this.passedOver(name)),
      chain,
      candidates,
      layers: layers.map((one) => classRecord(one)),
      hooks: hooks.map((hook) => resolveHook(hook, facts)),
    });
    if (requireOverride && [model, ...layers].every(({ applicable }) => applicable.length === 0))
      throw OverrideUnusedError.ofAll(resolution);
    this.entries.set(resolution, { model, layers, elsewhere: new Set(elsewhere), requireOverride, platforms });
    return resolution;
  }

  /**
   * Imports the classes of a resolution. No failure is kept: a second call tries again.
   * The caller names the types: the registry knows neither contexts nor models.
   * @param resolution as `resolve` of this registry gave it.
   * @throws ModuleFailedError, NotAModelClassError, OverrideBaseError, OverrideShapeError.
   */
  async load<Context = never, Model extends object = object, Family extends object = object>(
    resolution: Resolution,
  ): Promise<ServingClasses<Context, Model, Family>> {
    const entries = this.entries.get(resolution) ?? this.entries.get(this.resolve(resolution.requested, resolution))!;
    return ServingClasses.load({ ...entries, resolution }, this.loader);
  }

  private change(changed: Partial<RegistryState>): void {
    this.state = { ...this.state, ...changed };
  }

  private declare(entry: DeclaredClass): void {
    const rival = this.state.declared.find(({ name, kind, owner }) => {
      return name === entry.name && (owner.plugin === entry.owner.plugin || (kind === 'model' && entry.kind === 'model'));
    });
    if (rival !== undefined) throw new ArchitectureConflictError(entry.name, rival.owner, entry.owner);
    this.change({ declared: [...this.state.declared, entry] });
  }

  private declaredNamed(of: string): readonly DeclaredClass[] {
    return this.state.declared.filter((one) => one.name === of || qualifiedName(one) === of);
  }

  private declaredAs(of: string, owner: Owner, declared: string): DeclaredClass {
    const found = this.declaredNamed(of);
    if (found.length > 1) throw new TargetAmbiguousError(declared, of, owner, found);
    if (found[0] !== undefined) return found[0];
    const nearest = meantNames(of, this.state.declared.map(of.includes('/') ? qualifiedName : ({ name }) => name));
    throw new OverrideWithoutUpstreamError(declared, of, owner, nearest, this.state.retired.get(of));
  }

  private modelNamed(architecture: string): DeclaredClass | undefined {
    return this.state.declared.find(({ kind, name }) => kind === 'model' && name === architecture);
  }

  private overridesOf(target: DeclaredClass): readonly OverrideEntry[] {
    return this.state.overrides.filter((entry) => entry.target === target);
  }

  private checkModes(entry: OverrideEntry | RegisteredHook): void {
    const known = this.surroundings.platforms?.().find(({ name }) => name === entry.platform);
    const wrong = entry.modes?.find((mode) => known?.modes.includes(mode) === false);
    if (wrong !== undefined) throw new TargetModeError(registrationText(entry), entry.owner, wrong, known!);
  }

  /** A hook method is known by its class alone, so of those only the plugin can be checked here. */
  private checkWithout(name: string): void {
    const known = [...this.state.overrides.map(overrideName), ...this.state.hooks.map((hook) => hook.name)];
    const [, plugin] = /^(.+?): [^.]+\.[^.]+$/.exec(name) ?? [];
    const plugins = new Set([...this.state.declared, ...this.state.overrides].map(({ owner }) => owner.plugin));
    if (!known.includes(name) && !(plugin !== undefined && plugins.has(plugin)))
      throw new WithoutUnknownError(name, meantNames(name, known));
  }

  private passedOver(architecture: string): Resolution['passedOver'][number] {
    const nearest = meantNames(architecture, this.architectures());
    const retired = this.state.retired.get(architecture);
    if (retired === undefined) return { architecture, reason: 'unknown', detail: 'no loaded plugin registers it', nearest };
    return { architecture, reason: 'retired', detail: retired.note, nearest };
  }

  private architectures(): string[] {
    return this.state.declared.flatMap(({ kind, name }) => (kind === 'model' ? [name] : []));
  }

  private unknown(architectures: readonly string[]): Error {
    const { retired } = this.state;
    const plugins = this.surroundings.loadedPlugins?.() ?? [];
    const gone = architectures.find((name) => retired.has(name)); // explains more than that the others are unknown
    if (gone !== undefined) return new RetiredArchitectureError(gone, retired.get(gone)!, plugins);
    const layer = this.state.declared.find(({ kind, name }) => kind === 'layer' && architectures.includes(name));
    return new UnknownArchitectureError(architectures, meantNames(architectures[0] ?? '', this.architectures()), plugins, layer);
  }
}

/** Whether a contract names nothing. */
const isEmpty = (reliesOn: ReliesOn = {}): boolean => Object.values(reliesOn).flatMap((named) => Object.values(named)).length === 0;
