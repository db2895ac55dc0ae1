import type { ModelCapabilities } from './capabilities.ts';
import { ArchitectureConflictError, architectureError, OverrideWithoutUpstreamError, RegistrationConflictError } from './errors.ts';
import { ClassLoader } from './load-class.ts';
import type { LazyManifest } from './manifest.ts';
import type { LazyFactory, LazyModel } from './model.ts';
import { nearestNames } from './names.ts';
import type { ReliesOn, RetiredArchitecture } from './plugin.ts';
import type { OverrideEntry, Owner, UpstreamEntry } from './registration.ts';
import { Resolution, type ResolveContext, resolveArchitectures } from './resolve.ts';

export interface RegisterOptions {
  capabilities?: ModelCapabilities;
  owner?: Owner;
  /** The upstream package's version and manifest, for the drift contracts of overrides. */
  version?: string | null;
  manifest?: LazyManifest | null;
}

export type OverrideOptions = {
  platform: string;
  /** 0 unless given. */
  priority?: number;
  reliesOn?: ReliesOn;
  owner?: Owner;
} & ({ model: LazyModel; factory?: never } | { factory: LazyFactory; model?: never });

/** One line of `list()`. */
export interface ArchitectureListing {
  readonly architecture: string;
  readonly owner: Owner;
  readonly capabilities: ModelCapabilities;
  readonly overrides: readonly {
    readonly platform: string;
    readonly priority: number;
    readonly kind: 'subclass' | 'factory';
    readonly owner: Owner;
  }[];
}

const application: Owner = { plugin: 'application', file: null };

/** All that is registered. Entries and lists are never changed, so that a copy of the three maps is a snapshot. */
interface RegistryState {
  readonly upstream: Map<string, UpstreamEntry>;
  /** By architecture, in the order of registration. */
  readonly overrides: Map<string, readonly OverrideEntry[]>;
  readonly retired: Map<string, readonly (RetiredArchitecture & { readonly owner: Owner })[]>;
}

/**
 * Which class runs an architecture on a platform. Registering, listing and resolving import no model code; only `Resolution.load` does.
 */
export class ModelRegistry {
  private state: RegistryState = { upstream: new Map(), overrides: new Map(), retired: new Map() };
  private readonly classes = new ClassLoader();
  /** Names of the plugins that are loaded, for errors. */
  private readonly loadedPlugins: () => readonly string[];

  constructor({ loadedPlugins = () => [] }: { loadedPlugins?: () => readonly string[] } = {}) {
    this.loadedPlugins = loadedPlugins;
  }

  /**
   * Registers an upstream class for an architecture.
   * @throws ArchitectureConflictError when it has one already.
   */
  register(
    architecture: string,
    model: LazyModel,
    { capabilities = {}, owner = application, version = null, manifest = null }: RegisterOptions = {},
  ): void {
    const existing = this.state.upstream.get(architecture);
    if (existing !== undefined) throw new ArchitectureConflictError(architecture, existing.owner, owner);
    const entry: UpstreamEntry = { kind: 'upstream', architecture, owner, model, capabilities, version, manifest };
    this.state.upstream.set(architecture, entry);
  }

  /**
   * Registers an override of an architecture on a platform. The upstream class stays reachable through `upstreamOf`.
   * @throws OverrideWithoutUpstreamError when nothing is registered under that name; RegistrationConflictError at an equal priority.
   */
  override(architecture: string, options: OverrideOptions): void {
    const { platform, priority = 0, reliesOn = null, owner = application } = options;
    this.requireRegistered(architecture, owner, 'An override');
    const rival = this.overridesOf(architecture).find((entry) => entry.platform === platform && entry.priority === priority);
    if (rival !== undefined) throw new RegistrationConflictError({ architecture, platform, priority, owners: [rival.owner, owner] });
    const facts = { architecture, owner, platform, priority, reliesOn };
    const entry: OverrideEntry =
      options.factory === undefined
        ? { ...facts, kind: 'subclass', model: options.model }
        : { ...facts, kind: 'factory', factory: options.factory };
    this.state.overrides.set(architecture, [...this.overridesOf(architecture), entry]);
  }

  /**
   * For what is declared for an architecture, such as an override.
   * @throws OverrideWithoutUpstreamError when nothing is registered under that name.
   */
  requireRegistered(architecture: string, owner: Owner, declared: string): void {
    if (this.state.upstream.has(architecture)) return;
    throw new OverrideWithoutUpstreamError(architecture, owner, nearestNames(architecture, this.state.upstream.keys()), declared);
  }

  /** Records where an architecture went, so that asking for it says so. Of several notes the last counts, until its plugin is unloaded. */
  retire(architecture: string, facts: RetiredArchitecture, owner: Owner = application): void {
    this.state.retired.set(architecture, [...(this.state.retired.get(architecture) ?? []), { ...facts, owner }]);
  }

  /** Takes away all that a plugin registered. What it overrode is what it was before. */
  removePlugin(plugin: string): void {
    const { upstream, overrides, retired } = this.state;
    for (const [architecture, { owner }] of upstream) if (owner.plugin === plugin) upstream.delete(architecture);
    keepOthers(overrides, plugin, (architecture) => upstream.has(architecture));
    keepOthers(retired, plugin);
  }

  /** Runs `change`; when it throws, the registry is as it was before. */
  transaction<R>(change: () => R): R {
    const before = {
      upstream: new Map(this.state.upstream),
      overrides: new Map(this.state.overrides),
      retired: new Map(this.state.retired),
    };
    try {
      return change();
    } catch (error) {
      this.state = before;
      throw error;
    }
  }

  /** Every registered architecture with its overrides, in the order of registration. */
  list(): ArchitectureListing[] {
    return [...this.state.upstream.values()].map(({ architecture, owner, capabilities }) => ({
      architecture,
      owner,
      capabilities,
      overrides: this.overridesOf(architecture).map(({ platform, priority, kind, owner: by }) => ({ platform, priority, kind, owner: by })),
    }));
  }

  /**
   * The upstream class of an architecture, whatever overrides it: a resolution whose chain is that class alone.
   * @throws UnknownArchitectureError, RetiredArchitectureError.
   */
  upstreamOf(architecture: string): Resolution {
    const entry = this.state.upstream.get(architecture);
    if (entry === undefined) throw this.unknown([architecture]);
    return new Resolution({
      requested: [architecture],
      passedOver: [],
      upstream: entry,
      overrides: [],
      platform: null,
      mode: null,
      classes: this.classes,
    });
  }

  /**
   * The class that serves the first known name in `architectures` (as in config.json) on a platform, and why each other candidate does not.
   * @throws UnknownArchitectureError with the nearest names; RetiredArchitectureError where the names were retired.
   */
  resolve(architectures: readonly string[], context: ResolveContext): Resolution {
    return resolveArchitectures(architectures, context, {
      upstream: this.state.upstream,
      retired: this.retiredNames(),
      overridesOf: (architecture) => this.overridesOf(architecture),
      unknown: (names) => this.unknown(names),
      classes: this.classes,
    });
  }

  private overridesOf(architecture: string): readonly OverrideEntry[] {
    return this.state.overrides.get(architecture) ?? [];
  }

  private retiredNames(): Map<string, RetiredArchitecture> {
    return new Map([...this.state.retired].map(([architecture, notes]) => [architecture, notes.at(-1)!]));
  }

  private unknown(architectures: readonly string[]): Error {
    const known = [...this.state.upstream.keys()];
    return architectureError(architectures, {
      nearest: nearestNames(architectures[0] ?? '', known),
      retired: this.retiredNames(),
      plugins: this.loadedPlugins(),
    });
  }
}

/** Drops a plugin's entries from lists by architecture, and whole lists that `mayStay` refuses. */
function keepOthers<Entry extends { readonly owner: Owner }>(
  lists: Map<string, readonly Entry[]>,
  plugin: string,
  mayStay: (architecture: string) => boolean = () => true,
): void {
  for (const [architecture, entries] of lists) {
    const kept = mayStay(architecture) ? entries.filter(({ owner }) => owner.plugin !== plugin) : [];
    if (kept.length === 0) lists.delete(architecture);
    else lists.set(architecture, kept);
  }
}
