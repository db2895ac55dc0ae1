import { GraftError } from '@graft/common';
import {
  type Binding,
  ContractVersionError,
  collectBindings,
  describeServices,
  type Owner,
  requireNoRival,
  ServiceContainer,
  type ServiceRecord,
  servesOn,
} from '@graft/services';
import semver from 'semver';
import { graftPeers } from './discover.ts';
import { TargetModeError } from './errors.ts';
import { HookRunner, type HookTarget, type LoadedHook } from './hook-runner.ts';
import { ModelRegistry } from './model-registry.ts';
import { type Platform, platformContract, type SelectedPlatform, selectPlatform } from './platform.ts';
import type { Plugin, PluginHook } from './plugin.ts';
import {
  PlatformDuplicateError,
  PluginDuplicateError,
  PluginFailedError,
  PluginMissingError,
  PluginVersionError,
} from './plugin-errors.ts';
import { type PluginRecord, pluginRecord } from './plugin-set.ts';

export interface PluginSource {
  readonly plugin: Plugin;
  /** File URL of its module; null where it was passed in code, and cannot follow into a worker. */
  readonly file: string | null;
  /** The package name, path or URL that found it. */
  readonly specifier: string | null;
}

/** Whether a plugin is meant by its name, or by what it was found by. */
export function matches({ plugin, specifier, file }: PluginSource, name: string): boolean {
  return plugin.name === name || specifier === name || file === name;
}

export interface LoadedPlugin extends PluginSource {
  readonly name: string;
  readonly version: string | null;
  readonly bindings: readonly Binding[];
}

export interface ServicesOptions {
  platform: string;
  /** Left out: bindings that name modes are left out too. */
  mode?: string;
  defaults?: readonly Binding[];
}

/** The plugins of one engine, and what they registered. A plugin is in it whole or not at all. */
export class LoadedPlugins {
  readonly registry: ModelRegistry;
  private readonly graftVersion: string;
  private loaded: readonly LoadedPlugin[] = [];
  private queue: Promise<unknown> = Promise.resolve();

  constructor({ graftVersion }: { graftVersion: string }) {
    this.graftVersion = graftVersion;
    this.registry = new ModelRegistry({ loadedPlugins: () => this.loaded.map(({ name }) => name), platforms: () => this.platforms });
  }

  get plugins(): readonly LoadedPlugin[] {
    return this.loaded;
  }

  get platforms(): readonly Platform[] {
    return this.loaded.flatMap(({ plugin }) => plugin.platforms ?? []);
  }

  /** See `selectPlatform`: the platform to run on, of those that the plugins bring. */
  selectPlatform(requested?: string): Promise<SelectedPlatform> {
    const names = this.loaded.map(({ name }) => name);
    return selectPlatform(this.platforms, requested, names);
  }

  /** Plugin hooks in plugin order, for `HookRunner`. */
  get hooks(): readonly LoadedHook[] {
    return this.loaded.flatMap((loaded) =>
      (loaded.plugin.hooks ?? []).map((hook, index) => {
        return { ...hook, owner: ownerOf(loaded), name: hookName(loaded.plugin, hook, index), upstream: this.registry.declared(hook.of) };
      }),
    );
  }

  /** Creates the runner of a model's hooks, with the modes of its platform and the version of the plugin that brings the upstream class. */
  async createHookRunner(target: HookTarget): Promise<HookRunner> {
    const modes = this.platforms.find(({ name }) => name === target.platform)?.modes;
    const plugin = this.loaded.find(({ name }) => name === target.chain[0]?.plugin)?.plugin;
    const upstreamVersion = plugin?.version ?? (await plugin?.manifest?.())?.version ?? null;
    return new HookRunner(
      { ...target, upstreamVersion, graftVersion: this.graftVersion, ...(modes !== undefined && { modes }) },
      this.hooks,
    );
  }

  get records(): readonly PluginRecord[] {
    return this.loaded.map(({ plugin }) => pluginRecord(plugin));
  }

  /**
   * Loads one more plugin, whole or not at all. The same plugin again changes nothing.
   * @throws the error of the step that failed; the set, the registry and every binding are then as they were.
   */
  add(source: PluginSource): Promise<void> {
    const added = this.queue.then(() => this.addNow(source)); // one at a time: a load that waits must not see half of another
    this.queue = added.catch(() => {});
    return added.catch((cause: unknown) => {
      throw GraftError.is(cause) ? cause : new PluginFailedError(ownerOf(source), 'registration', cause);
    });
  }

  /** The bindings that an engine on this platform and in this mode has; `defaults` are for what no plugin binds. */
  bindings({ platform, mode, defaults = [] }: ServicesOptions): readonly Binding[] {
    const ofPlugins = this.loaded.flatMap(({ bindings }) => bindings);
    return [...defaults, ...ofPlugins].filter((binding) => servesOn(binding, platform, mode));
  }

  createEngineContainer(options: ServicesOptions): ServiceContainer {
    const known = this.platforms.map(({ name }) => name);
    const isNowhere = ({ platforms }: Binding): boolean => platforms?.every((name) => !known.includes(name)) === true;
    const others = this.loaded.flatMap(({ bindings }) => bindings.filter(isNowhere));
    return new ServiceContainer(this.bindings(options), null, others);
  }

  /** Every binding, whether it serves there or why not. */
  describeServices({ defaults = [], ...engine }: ServicesOptions): Promise<ServiceRecord[]> {
    const all = [...defaults, ...this.loaded.flatMap(({ bindings }) => bindings)];
    return describeServices(all, { ...engine, platforms: this.platforms.map(({ name }) => name) });
  }

  private async addNow(source: PluginSource): Promise<void> {
    const { plugin } = source;
    if (this.isLoaded(source)) return;
    this.check(source);
    const loaded: LoadedPlugin = { ...source, name: plugin.name, version: plugin.version ?? null, bindings: await bindingsOf(source) };
    for (const other of this.loaded) for (const binding of loaded.bindings) requireNoRival(other.bindings, binding);
    const before = this.loaded;
    try {
      this.loaded = [...before, loaded]; // its platforms are known when its overrides are checked
      for (const { bindings } of this.loaded) for (const binding of bindings) this.checkModes(binding);
      this.registry.transaction(() => this.register(loaded));
    } catch (error) {
      this.loaded = before;
      throw error;
    }
  }

  private isLoaded(source: PluginSource): boolean {
    const same = this.loaded.find(({ name }) => name === source.plugin.name);
    if (same === undefined) return false;
    if (same.plugin === source.plugin || (same.file !== null && same.file === source.file)) return true;
    const versioned = same.version !== null && same.version === source.plugin.version;
    if (versioned && JSON.stringify(pluginRecord(same.plugin)) === JSON.stringify(pluginRecord(source.plugin))) return true;
    throw new PluginDuplicateError(ownerOf(same), ownerOf(source));
  }

  private check(source: PluginSource): void {
    const { plugin } = source;
    const owner = ownerOf(source);
    const ranges = [['It', plugin.graft] as const, ...graftPeers(source.file).filter(([, range]) => semver.validRange(range) !== null)];
    for (const [who, range] of ranges) {
      if (range === undefined || semver.satisfies(this.graftVersion, range, { includePrerelease: true })) continue;
      throw new PluginVersionError(owner, who, range, this.graftVersion, semver.validRange(range) !== null);
    }
    const names = this.loaded.map(({ name }) => name);
    for (const name of plugin.after ?? []) if (!names.includes(name)) throw new PluginMissingError(owner, name, names);
    for (const platform of plugin.platforms ?? []) {
      const { contract = platformContract } = platform;
      if (contract !== platformContract)
        throw new ContractVersionError({ name: `Platform "${platform.name}"`, owner }, contract, platformContract);
      const rival = this.loaded.find((other) => other.plugin.platforms?.some(({ name }) => name === platform.name));
      if (rival !== undefined) throw new PlatformDuplicateError(platform.name, ownerOf(rival), owner);
    }
  }

  /** @throws TargetModeError for a mode that no platform of the binding has, of those that are loaded. */
  private checkModes({ name, owner, platforms, modes }: Binding): void {
    const on = this.platforms.filter((platform) => platforms?.includes(platform.name) === true);
    const wrong = modes?.find((mode) => on.length > 0 && !on.some((platform) => platform.modes.includes(mode)));
    if (wrong !== undefined) throw new TargetModeError(`A binding of ${name}`, owner, wrong, on[0]!);
  }

  private register(loaded: LoadedPlugin): void {
    const { plugin } = loaded;
    const owner = ownerOf(loaded);
    const facts = { owner, version: plugin.version ?? null, manifest: plugin.manifest ?? null };
    for (const { architecture, model, ...more } of plugin.models ?? []) this.registry.register(architecture, model, { ...facts, ...more });
    for (const [name, load] of Object.entries(plugin.layers ?? {})) this.registry.layer(name, load, facts);
    for (const [name, where] of Object.entries(plugin.retired ?? {})) this.registry.retire(name, where);
    for (const { of, ...options } of plugin.overrides ?? []) this.registry.override(of, { ...options, owner });
    for (const [index, hook] of (plugin.hooks ?? []).entries()) this.registry.hook(hook, hookName(plugin, hook, index), owner);
    for (const platform of plugin.platforms ?? []) this.registry.checkPlatform(platform);
  }
}

async function bindingsOf(source: PluginSource): Promise<readonly Binding[]> {
  const { platforms, bind } = source.plugin;
  const owner = ownerOf(source);
  try {
    return bind === undefined ? [] : await collectBindings({ ...owner, platforms: platforms?.map(({ name }) => name) ?? null }, bind);
  } catch (cause) {
    throw GraftError.is(cause) ? cause : new PluginFailedError(owner, 'bind', cause);
  }
}

export function ownerOf({ plugin, file }: PluginSource): Owner {
  return { plugin: plugin.name, file };
}

/** `plugin: name of the function`, or `plugin: hook 2` where it has none. */
function hookName({ name }: Plugin, { run }: PluginHook, index: number): string {
  return `${name}: ${run.name === '' || run.name === 'run' ? `hook ${index + 1}` : run.name}`;
}
