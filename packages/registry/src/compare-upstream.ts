import { resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import { GraftError, graftError, messageOf, nearestNames, nowText, quotedList } from '@graft/common';
import { constructorOf, ownerText } from '@graft/services';
import semver from 'semver';
import { type LoadedPlugin, type LoadedPlugins, matches } from './loaded-plugins.ts';
import { loadManifest, ManifestChain, type UpstreamManifest } from './manifest.ts';
import { parseMethod, sameParameters } from './method-name.ts';
import type { AnyClass, InspectableModel } from './model.ts';
import type { UpstreamVersion } from './package-manifest.ts';
import { outgrown, type PatchRecord } from './patch-ledger.ts';
import type { ReliesOn } from './plugin.ts';
import { prototypesOf } from './prototypes.ts';

/** A difference of the other version in what a plugin relies on. */
export interface UpstreamDifference {
  readonly kind: 'class' | 'moved' | 'method' | 'signature' | 'copied' | 'attribute' | 'version' | 'removeWhen';
  /** What changed, with the nearest names where something is gone. */
  readonly what: string;
  /** Each override, hook or patch that relies on it, with plugin and file. */
  readonly reliedOnBy: readonly string[];
}

export interface UpstreamComparison {
  readonly plugin: string;
  readonly against: { readonly package: string; readonly version: string; readonly readFrom: UpstreamVersion['readFrom'] };
  /** Classes and members that were compared. */
  readonly compared: number;
  readonly differences: readonly UpstreamDifference[];
  readonly notChecked: readonly string[];
}

/** A model after its init hooks, and what they changed. */
export interface ComparedModel {
  readonly model: InspectableModel;
  readonly patches: readonly PatchRecord[];
}

/** Builds a small model of an architecture for each mode of a platform. */
export type BuildCompared = (architecture: string, platform: string) => Promise<readonly ComparedModel[]>;

/** One class or member that a plugin relies on. */
interface Reliance {
  readonly className: string;
  readonly member: string | null;
  readonly kind: 'class' | 'method' | 'attribute';
  /** Parameters that the new ones must be; default: the present ones. null: any. */
  readonly parameters?: string | null;
  /** Of a method that was copied. */
  readonly hash?: string;
  readonly by: string;
}

/**
 * Compares what a plugin relies on with another version of an upstream package: its `reliesOn`, the classes that it subclasses and those in `within`, the
 * methods that it replaces, and what its init hooks patch.
 * @param name of a loaded plugin: its name, package, path or file URL.
 * @throws PluginNotLoadedError, UpstreamUnknownError, and what importing the plugin's classes throws.
 */
export async function compareUpstream(
  plugins: LoadedPlugins,
  name: string,
  { manifest: other, readFrom }: UpstreamVersion,
  build: BuildCompared,
): Promise<UpstreamComparison> {
  const plugin = pluginNamed(plugins, name);
  const manifests = await manifestsOf(plugins);
  const isOther = ({ module }: { module: string }): boolean => module.startsWith(`${other.package}/`);
  const present = manifests.flatMap(({ classes }) => Object.entries(classes));
  if (!present.some(([, facts]) => isOther(facts))) throw new UpstreamUnknownError(other.package, [...new Set(present.map(packageOf))]);
  // Bases in packages that are not compared stay as they are.
  const rest = present.filter(([, facts]) => !isOther(facts));
  const then = { ...other, classes: Object.fromEntries([...rest, ...Object.entries(other.classes).filter(([, facts]) => isOther(facts))]) };
  const collector = new RelianceCollector(plugins, plugin, { ...other, classes: Object.fromEntries(present) });
  await collector.collect(build);
  const isVersioned = manifests.some((manifest) => manifest.package === other.package);
  const differences = isVersioned ? collector.versionDifferences(other) : [];
  const compared = collector.relied.filter(({ className }) => isOther(collector.now.classes[className]!));
  for (const relied of compared) differences.push(...differencesOf(relied, collector.now, then));
  return {
    plugin: plugin.name,
    against: { package: other.package, version: other.version, readFrom },
    compared: new Set(compared.map(({ className, member }) => `${className}.${member}`)).size,
    differences: merged(differences),
    notChecked: [...new Set(collector.notChecked)],
  };
}

/** One line for each difference, what changed before what relies on it. */
export function comparisonText({ plugin, against, compared, differences, notChecked }: UpstreamComparison): string {
  const source = against.readFrom === 'sources' ? 'its sources' : 'its built manifest';
  const count =
    differences.length === 0 ? 'no difference' : differences.length === 1 ? '1 difference' : `${differences.length} differences`;
  return [
    `plugin "${plugin}" against ${against.package} ${against.version} (${source}): ${count} in ${compared} classes and members that it relies on`,
    ...differences.map(({ what, reliedOnBy }) => `  ${what} <- ${reliedOnBy.join('; ')}`),
    ...notChecked.map((text) => `  not checked: ${text}`),
  ].join('\n');
}

function pluginNamed({ plugins }: LoadedPlugins, name: string): LoadedPlugin {
  const file = pathToFileURL(resolve(name)).href;
  const found = plugins.find((one) => matches(one, name) || one.file === file);
  if (found !== undefined) return found;
  throw new PluginNotLoadedError(
    name,
    plugins.map((one) => one.name),
  );
}

async function manifestsOf({ plugins }: LoadedPlugins): Promise<UpstreamManifest[]> {
  const all = await Promise.all(
    plugins.map(({ plugin, file }) => loadManifest(plugin.manifest ?? null, ownerText({ plugin: plugin.name, file }))),
  );
  return all.filter((manifest) => manifest !== null);
}

const packageOf = ([, { module }]: [string, { module: string }]): string => module.slice(0, module.indexOf('/src/'));

class RelianceCollector {
  readonly relied: Reliance[] = [];
  readonly notChecked: string[] = [];
  readonly now: UpstreamManifest;
  private readonly plugins: LoadedPlugins;
  private readonly loaded: LoadedPlugin;
  private readonly owner: string;
  private readonly ranges: { readonly range: string; readonly by: string }[] = [];
  private readonly removals: { readonly patch: PatchRecord; readonly by: string }[] = [];
  /** Paths on a built instance of a class, from `reliesOn`. */
  private readonly paths: { readonly of: AnyClass; readonly path: string; readonly by: string }[] = [];

  constructor(plugins: LoadedPlugins, loaded: LoadedPlugin, now: UpstreamManifest) {
    this.plugins = plugins;
    this.loaded = loaded;
    this.now = now;
    this.owner = ownerText({ plugin: loaded.name, file: loaded.file });
  }

  async collect(build: BuildCompared): Promise<void> {
    const { overrides = [], hooks = [] } = this.loaded.plugin;
    for (const { of, platform, within = [], model, factory, reliesOn } of overrides) {
      const by = `override of ${of} on platform "${platform}" of ${this.owner}`;
      const Upstream = (await this.plugins.registry.declared(of)!()) as AnyClass;
      const Serving = model === undefined ? (await factory())(Upstream as never) : await model();
      const scopes = await Promise.all(within.map((name) => this.plugins.registry.declared(name)!()));
      for (const { name } of [Upstream, ...(scopes as AnyClass[])]) this.add({ className: name, member: null, kind: 'class', by });
      this.addReplaced(Serving as AnyClass, Upstream, by);
      this.addContract(reliesOn ?? {}, Upstream, by);
    }
    for (const { of, platform } of hooks) {
      const Upstream = of === '*' ? null : await this.plugins.registry.declared(of)?.();
      if (Upstream)
        this.add({ className: Upstream.name, member: null, kind: 'class', by: `hook of ${of} on platform "${platform}" of ${this.owner}` });
    }
    const found = new Set<object>();
    for (const platform of new Set([...overrides, ...hooks].map((one) => one.platform)))
      for (const architecture of this.architecturesOn(platform)) {
        const models = await build(architecture, platform).catch((error: unknown) => {
          this.notChecked.push(
            `${architecture} on platform "${platform}", which cannot be built: ${GraftError.is(error) ? error.what : messageOf(error)}`,
          );
          return [];
        });
        for (const { model, patches } of models) {
          this.addPatches(model, patches);
          const instances = [model, ...modulesIn(model)];
          for (const one of this.paths) {
            const instance = instances.find((each) => each instanceof one.of);
            if (instance === undefined) continue;
            found.add(one);
            this.addPath(instance, one.path.split('.'), one.by);
          }
        }
      }
    for (const one of this.paths) if (!found.has(one)) this.notChecked.push(`"${one.path}" of ${one.of.name}: no model with it was built`);
  }

  versionDifferences({ package: name, version }: UpstreamManifest): UpstreamDifference[] {
    const isIn = (range: string): boolean => semver.satisfies(version, range, { includePrerelease: true });
    return [
      ...this.ranges
        .filter(({ range }) => !isIn(range))
        .map(({ range, by }) => ({
          kind: 'version' as const,
          what: `${name} is ${version}, outside of version "${range}"`,
          reliedOnBy: [by],
        })),
      ...this.removals.flatMap(({ patch, by }) => {
        const isOfGraft = name.startsWith('@graft/'); // whose packages have one version
        const reason = outgrown(patch.removeWhen!, { upstreamVersion: version, graftVersion: isOfGraft ? version : null });
        if (reason === null) return [];
        const what = `patch ${patch.operation} of ${patch.target}: ${reason}; remove it${patch.upstream === null ? '' : `: ${patch.upstream}`}`;
        return [{ kind: 'removeWhen' as const, what, reliedOnBy: [by] }];
      }),
    ];
  }

  private architecturesOn(platform: string): string[] {
    const { registry } = this.plugins;
    const names = registry.list().map(({ architecture }) => architecture);
    return names.filter((architecture) => {
      const { candidates, layers, hooks } = registry.resolve([architecture], { platform });
      return [...candidates, ...layers.flatMap((layer) => layer.candidates), ...hooks].some(
        (one) => one.plugin === this.loaded.name && one.platform === platform,
      );
    });
  }

  private add(reliance: Reliance): void {
    if (Object.hasOwn(this.now.classes, reliance.className)) this.relied.push(reliance);
    else this.notChecked.push(`${reliance.className}, which no manifest has (${reliance.by})`);
  }

  private addReplaced(Serving: AnyClass, Upstream: AnyClass, by: string): void {
    const members = new ManifestChain(this.now, Upstream.name).members;
    for (const prototype of prototypesOf(Serving.prototype)) {
      if (prototype === Upstream.prototype) return;
      const Class = prototype.constructor;
      for (const [name, { get, set }] of Object.entries(Object.getOwnPropertyDescriptors(prototype))) {
        if (name === 'constructor' && constructorOf(Class) !== 'own') continue;
        const written = [...(get ? [`get ${name}`] : []), ...(set ? [`set ${name}`] : []), ...(get || set ? [] : [name])];
        for (const member of written.filter((one) => members.includes(one)))
          this.add({ className: Upstream.name, member, kind: 'method', by: `${Class.name}.${name}, ${by}` });
      }
    }
  }

  private addContract(
    { version, methods = [], copied = {}, attributes = [], parameters = [] }: ReliesOn,
    Upstream: AnyClass,
    by: string,
  ): void {
    if (version !== undefined) this.ranges.push({ range: version, by });
    for (const [text, hash] of [...methods.map((name) => [name] as const), ...Object.entries(copied)]) {
      const { className, member, parameters: stated } = parseMethod(text);
      this.add({
        className: className ?? Upstream.name,
        member,
        kind: 'method',
        parameters: stated,
        ...(hash !== undefined && { hash }),
        by,
      });
    }
    for (const path of [...attributes, ...parameters]) {
      const { className, member } = parseMethod(path);
      if (className === null) this.paths.push({ of: Upstream, path, by });
      else this.add({ className, member, kind: 'attribute', by });
    }
  }

  private addPatches(model: InspectableModel, patches: readonly PatchRecord[]): void {
    for (const patch of patches.filter(({ plugin }) => plugin === this.loaded.name)) {
      const by = `patch by ${patch.hook} of ${this.owner}`;
      if (patch.removeWhen !== null) this.removals.push({ patch, by });
      const [owner = '', member = null] = patch.target.split('.');
      const instance = modulesIn(model).find((module) => module.constructor.name === owner);
      const className = Object.hasOwn(this.now.classes, owner) ? owner : instance && this.classWith(instance, () => true);
      if (!className) continue;
      const chain = new ManifestChain(this.now, className);
      if (member === null) this.add({ className, member, kind: 'class', by });
      else if (chain.member(member) !== null) this.add({ className, member, kind: 'method', by });
      else if (chain.attributes.includes(member)) this.add({ className, member, kind: 'attribute', by });
    }
  }

  /** Each field on a path from an instance, by the class that has it; `*` is any element. */
  private addPath(holder: unknown, [segment, ...rest]: readonly string[], by: string): void {
    if (segment === undefined || typeof holder !== 'object' || holder === null) return;
    const keys = segment === '*' ? Object.keys(holder).filter((key) => /^\d+$/.test(key)) : [segment];
    const className = this.classWith(holder, (chain) => chain.attributes.includes(segment));
    if (className !== null) this.add({ className, member: segment, kind: 'attribute', by });
    if (rest.length > 0) for (const key of keys) this.addPath(Reflect.get(holder, key), rest, by);
  }

  /** The first class of an object in a manifest that fits. */
  private classWith(instance: object, fits: (chain: ManifestChain) => boolean): string | null {
    const names = prototypesOf(Object.getPrototypeOf(instance) as object).map((prototype) => prototype.constructor.name);
    return names.find((name) => Object.hasOwn(this.now.classes, name) && fits(new ManifestChain(this.now, name))) ?? null;
  }
}

const modulesIn = (model: InspectableModel): object[] => [...(model.namedModules?.() ?? [])].map(([, module]) => module);

function differencesOf(
  { className, member, kind, parameters, hash, by }: Reliance,
  now: UpstreamManifest,
  then: UpstreamManifest,
): UpstreamDifference[] {
  const differ = (found: UpstreamDifference['kind'], what: string): UpstreamDifference => ({ kind: found, what, reliedOnBy: [by] });
  const [was, is] = [now.classes[className]!, then.classes[className]];
  if (is === undefined) return [differ('class', `class ${className} is gone; ${nearestClass(className, now, then)}`)];
  const moved = was.module === is.module ? [] : [differ('moved', `class ${className} moved from ${was.module} to ${is.module}`)];
  if (member === null) return moved;
  const [before, after] = [new ManifestChain(now, className), new ManifestChain(then, className)];
  const name = `${className}.${member}`;
  if (kind === 'attribute') {
    const isThere = after.attributes.includes(member) || after.unknownBase !== null;
    return isThere
      ? moved
      : [...moved, differ('attribute', `field ${name} is gone; ${nearestOf(member, after.attributes, before.attributes)}`)];
  }
  const facts = after.member(member);
  if (facts === null) {
    if (after.unknownBase !== null) return moved;
    const text = after.attributes.includes(member) ? 'it is a field or an accessor now' : nearestOf(member, after.members, before.members);
    return [...moved, differ('method', `method ${name} is gone; ${text}`)];
  }
  if (hash !== undefined && facts.hash !== hash)
    moved.push(differ('copied', `the body of ${name}, which was copied, changed (hash "${hash}" became "${facts.hash}")`));
  const wanted = parameters === undefined ? (before.member(member)?.parameters.join(', ') ?? null) : parameters;
  if (wanted !== null && !sameParameters(wanted, facts.parameters))
    moved.push(differ('signature', `${name}(${wanted}) is ${member}(${facts.parameters.join(', ')}) now`));
  return moved;
}

/** A renamed class is most likely new in the same file, or new with the same base. */
function nearestClass(name: string, { classes: now }: UpstreamManifest, { classes: then }: UpstreamManifest): string {
  const { module, base } = now[name]!;
  const added = Object.keys(then).filter((one) => !Object.hasOwn(now, one));
  const likely = [(one: string) => then[one]!.module === module, (one: string) => base !== null && then[one]!.base === base];
  const found = likely.map((isLikely) => added.filter(isLikely)).find(({ length }) => length > 0);
  return found === undefined ? nearestOf(name, Object.keys(then), Object.keys(now)) : nowText(name, found);
}

/** A renamed one is most likely among the names that are new. */
function nearestOf(name: string, then: readonly string[], now: readonly string[]): string {
  const added = then.filter((one) => !now.includes(one));
  return nowText(name, nearestNames(name, added).length > 0 ? added : then);
}

function merged(differences: readonly UpstreamDifference[]): UpstreamDifference[] {
  const byText = new Map<string, UpstreamDifference>();
  for (const one of differences) {
    const reliedOnBy = [...(byText.get(one.what)?.reliedOnBy ?? []), ...one.reliedOnBy];
    byText.set(one.what, { ...one, reliedOnBy: [...new Set(reliedOnBy)] });
  }
  return [...byText.values()];
}

export class PluginNotLoadedError extends graftError('GRAFT_PLUGIN_NOT_LOADED', (name: string, loaded: readonly string[]) => ({
  what: `No loaded plugin is named "${name}", by its name, package or path.`,
  where: `plugins loaded: ${quotedList(loaded, 'none', 'and')}`,
  fix: `name one of them (nearest: ${quotedList(nearestNames(name, loaded))}), or load it with --plugins.`,
})) {}

export class UpstreamUnknownError extends graftError('GRAFT_UPSTREAM_UNKNOWN', (name: string, known: readonly string[]) => ({
  what: `No loaded plugin has a manifest of classes of the package ${name}.`,
  where: `packages with a manifest: ${quotedList(known, 'none', 'and')}`,
  fix: 'name another version of one of these packages, or load the plugin that brings its models.',
})) {}
