import type { LanguageModel, ModelFamily } from '@graft/core-model';
import {
  type Binding,
  type BuildCompared,
  type ClassContract,
  compareUpstream,
  comparisonText,
  contractText,
  type DetectedPlatform,
  describeContract,
  describePlatform,
  detectPlatform,
  explain,
  explainHooks,
  type HookRunnerRecord,
  type LoadedPlugins,
  type Platform,
  type PluginRecord,
  pluginRecord,
  type Resolution,
  readUpstream,
  type ServiceRecord,
  servicesText,
  type UpstreamComparison,
} from '@graft/registry';
import { chooseBackend } from './backend-choice.ts';
import { defaultCacheDirectory, type EngineConfig } from './config.ts';
import { createServices, defaultsOn, readFiles } from './default-services.ts';
import type { EngineInfo } from './engine.ts';
import { type BuiltModel, buildModel, type ModelChoice, markReads, modeOf } from './load-model.ts';
import { configAlone, type ModelSource, readAsText, readSource } from './model-source.ts';
import { loadEnginePlugins, type StartOptions } from './start-engine.ts';
import { Backends } from './tokens.ts';

/** An answer to read, and the same as data (`--json`). */
export interface Explanation<Record> {
  readonly text: string;
  readonly record: Record;
}

/** Which plugins are loaded, and the platform in question. */
export type PlatformChoice = Partial<Pick<EngineConfig, 'app' | 'plugins' | 'allowPlugins' | 'platform'>>;

export interface ExplainArchitectureOptions
  extends PlatformChoice,
    Pick<ModelChoice, 'mode' | 'architecture' | 'without' | 'requireOverride'>,
    Partial<Pick<EngineConfig, 'platformOptions' | 'threads' | 'weights' | 'cacheDirectory'>> {
  /** As in config.json: the first registered one is taken. Default: those of `model`. */
  architectures?: readonly string[];
  /** A checkpoint folder, in which config.json is enough, or a .gguf file. */
  model?: string;
}

/** A model that is built from its config alone. No weight is read. */
export interface ExplainModelOptions extends PlatformChoice, ModelChoice {
  /** A checkpoint folder, in which config.json is enough, or a .gguf file. */
  model: string;
}

export interface ExplainContractOptions extends Omit<PlatformChoice, 'platform'> {
  /** An architecture, or a class of an upstream manifest. */
  className: string;
  /** A checkpoint: the parameters of the architecture's model are then listed too. No weight is read. */
  model?: string;
}

export interface ExplainUpstreamOptions extends Omit<PlatformChoice, 'platform'> {
  /** A loaded plugin: its name, package or path. */
  plugin: string;
  /** The folder of another version of an upstream package. */
  against: string;
}

export interface ExplainServicesOptions extends PlatformChoice, Pick<ModelChoice, 'mode'> {
  /** Of an application around the engine. */
  defaults?: readonly Binding[];
}

/** `explain --patches --json`. */
export interface PatchesRecord extends HookRunnerRecord {
  readonly resolution: Resolution;
}

/**
 * Which classes would serve an architecture and why, and which backend, with no model built. Model code is imported, so that classes have names. Nothing is
 * measured.
 */
export async function explainArchitecture(asked: ExplainArchitectureOptions, options: StartOptions = {}): Promise<Explanation<Resolution>> {
  const { without = [], requireOverride = false } = asked;
  const { plugins, device } = await openPlatform(asked, options);
  const { registry } = plugins;
  const mode = asked.mode === undefined ? null : modeOf(device, asked);
  const source = asked.model === undefined ? null : await sourceOn(device, plugins, { ...asked, model: asked.model });
  const architectures = asked.architectures ?? source?.architectures ?? [];
  const resolution = registry.resolve(architectures, { platform: device.platform.name, mode, device, without, requireOverride });
  const classes = await registry.load(resolution);
  await classes.checkContracts();
  const backend = await backendOn(device, plugins, asked);
  const record = { ...classes.resolution, backend };
  const lines = [explain(record), ...readAsText(source?.readAs ?? null), deviceText(device)];
  if (backend !== null) lines.push(`backend "${backend.name}": ${backend.reason}`);
  return { text: lines.join('\n'), record };
}

/** The backend that a start would choose, if its measurement is in the cache. */
async function backendOn(on: DetectedPlatform, plugins: LoadedPlugins, asked: ExplainArchitectureOptions): Promise<EngineInfo['backend']> {
  const mode = modeOf(on, asked);
  await using container = createServices(plugins, on, { mode });
  const candidates = await container.get(Backends);
  if (candidates.length === 0) return null;
  const { model, platformOptions, cacheDirectory = defaultCacheDirectory() } = asked;
  const subject = model === undefined ? null : { platform: on.platform.name, mode, config: { ...asked, model, cacheDirectory } };
  const { candidate, reason } = await chooseBackend(candidates, platformOptions, subject);
  return { name: candidate.name, reason };
}

/**
 * The changes that a model's hooks make: the model is built from its config, its init hooks run, and the ledger lists each change. Post-load hooks need
 * weights, so they are listed and not run.
 * @throws what reading the config, resolving, building and the init hooks throw.
 */
export async function explainPatches(asked: ExplainModelOptions, options: StartOptions = {}): Promise<Explanation<PatchesRecord>> {
  const { device, ...built } = await buildToExplain(asked, options);
  const { resolution, hooks, model, readAs } = built;
  markReads(built);
  const ran = hooks.toJSON();
  const planned = await hooks.plan('postLoad', model);
  const record = { resolution, ...ran, hooks: [...ran.hooks, ...planned] };
  return { text: [explain(resolution), ...readAsText(readAs), deviceText(device), explainHooks(record)].join('\n'), record };
}

/** Who binds each service of an engine, and what it is injected into. Nothing is built. */
export async function explainServices(asked: ExplainServicesOptions, options: StartOptions = {}): Promise<Explanation<ServiceRecord[]>> {
  const { plugins, device } = await openPlatform(asked, options);
  const on = { platform: device.platform.name, mode: modeOf(device, asked) };
  const record = await plugins.describeServices({ ...on, defaults: [...defaultsOn(plugins, on), ...(asked.defaults ?? [])] });
  return { text: [servicesText(record), deviceText(device)].join('\n'), record };
}

/** What the loaded plugins bring; each platform with its device. Nothing is built. */
export async function explainPlugins(asked: Omit<PlatformChoice, 'platform'>, options: StartOptions = {}) {
  const loaded = await loadEnginePlugins(asked, options);
  const devices = await Promise.all(loaded.platforms.map((platform) => detectPlatform(platform)));
  const record = {
    plugins: loaded.plugins.map(({ plugin, file, bindings }) => ({
      ...pluginRecord(plugin),
      services: bindings.map(
        ({ name, platforms, modes }) => `${name} on ${platforms?.join(' ') ?? 'all'}, modes ${modes?.join(' ') ?? 'all'}`,
      ),
      file,
    })),
    platforms: devices.map((detected) => ({ name: detected.platform.name, device: detected.device, reason: detected.reason })),
  };
  return { text: record.plugins.map((plugin) => pluginText(plugin, devices)).join('\n'), record };
}

function pluginText(
  { name, version, file, platforms, ...lists }: PluginRecord & { services: readonly string[]; file: string | null },
  devices: readonly DetectedPlatform[],
) {
  const found = devices.filter(({ platform }) => platforms.includes(platform.name));
  const rows = [
    ...found.map((detected) => `platform ${detected.platform.name} ${describePlatform(detected)}`),
    ...(['models', 'layers', 'overrides', 'hooks', 'services'] as const)
      .filter((kind) => lists[kind].length > 0)
      .map((kind) => `${kind}: ${lists[kind].join('; ')}`),
  ];
  return [`plugin ${name}${version === null ? '' : ` ${version}`} (${file ?? 'passed in code'})`, ...rows.map((row) => `  ${row}`)].join(
    '\n',
  );
}

/**
 * The members of an upstream class that an override may rely on: as TypeScript to paste (`reliesOn`), and as data.
 * @throws UnknownClassError with the nearest names; for `model`, what opening a checkpoint throws.
 */
export async function explainContract(
  { className, model, ...where }: ExplainContractOptions,
  options: StartOptions = {},
): Promise<Explanation<ClassContract>> {
  const plugins = await loadEnginePlugins(where, options);
  const build = model === undefined ? undefined : (architecture: string) => buildUpstream(plugins, architecture, model);
  const record = await describeContract(plugins, className, build);
  return { text: contractText(record), record };
}

/**
 * What a plugin relies on, compared with another version of upstream. Its small models are built from their configs, up to the init hooks.
 * @throws PluginNotLoadedError, UpstreamUnreadableError, UpstreamUnknownError
 */
export async function explainUpstream(
  { plugin, against, ...where }: ExplainUpstreamOptions,
  options: StartOptions = {},
): Promise<Explanation<UpstreamComparison>> {
  const plugins = await loadEnginePlugins(where, options);
  const families = await plugins.registry.families<ModelFamily>();
  const build: BuildCompared = async (architecture, name) => {
    const raw = families.get(architecture)?.small()[architecture] ?? { architectures: [architecture] };
    const checkpoint = configAlone(`the small config of ${architecture}`, raw);
    const source = await readSource(plugins.registry, checkpoint, architecture);
    const platform = await platformOf(plugins, name);
    return await Promise.all(
      platform.platform.modes.map(async (mode) => {
        const { model, hooks } = await buildModel({ plugins, platform, config: { mode } }, source);
        return { model, patches: hooks.ledger.toJSON() };
      }),
    );
  };
  const record = await compareUpstream(plugins, plugin, await readUpstream(against), build);
  return { text: comparisonText(record), record };
}

/** Without storage: its parameters have names and shapes. */
async function buildUpstream(plugins: LoadedPlugins, architecture: string, path: string): Promise<LanguageModel> {
  const detected = { platform: noPlatform, device: 'absent' as const, reason: '', properties: {} };
  const source = await sourceOn(detected, plugins, { model: path, architecture });
  return (await buildModel({ plugins, platform: detected, config: {}, without: 'overrides' }, source)).model;
}

/** Builds the model for its platform, up to the init hooks. */
export async function buildToExplain(
  asked: ExplainModelOptions,
  options: StartOptions,
): Promise<BuiltModel & { device: DetectedPlatform }> {
  const { plugins, device } = await openPlatform(asked, options);
  const source = await sourceOn(device, plugins, asked);
  return { ...(await buildModel({ plugins, platform: device, config: asked }, source)), device };
}

/** Stands for upstream alone. Services that plugins bind for every platform are known there. */
export const noPlatform: Platform = { name: 'upstream', modes: ['none'], detect: () => 'absent' };

type SourceChoice = Pick<ExplainModelOptions, 'model' | 'architecture' | 'mode'>;

async function sourceOn(on: DetectedPlatform, plugins: LoadedPlugins, asked: SourceChoice): Promise<ModelSource> {
  const checkpoint = await readFiles(plugins, on, asked, (files) => files.config(asked.model));
  return await readSource(plugins.registry, checkpoint, asked.architecture);
}

/** The plugins, and the named platform, even if its device is absent. Without a name, the platform that a start would choose. */
async function openPlatform(asked: PlatformChoice, options: StartOptions): Promise<{ plugins: LoadedPlugins; device: DetectedPlatform }> {
  const plugins = await loadEnginePlugins(asked, options);
  return { plugins, device: await platformOf(plugins, asked.platform) };
}

async function platformOf(plugins: LoadedPlugins, asked: string | undefined): Promise<DetectedPlatform> {
  const named = plugins.platforms.find(({ name }) => name === asked);
  return await detectPlatform(named ?? (await plugins.selectPlatform(asked)).platform);
}

/** Whether the platform has a device, in its detector's words: `platform "NAME" is emulated: REASON`. */
function deviceText({ platform, ...detected }: DetectedPlatform): string {
  return `platform "${platform.name}" ${describePlatform(detected)}`;
}
