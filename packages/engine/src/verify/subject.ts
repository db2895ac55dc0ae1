import { readFile } from 'node:fs/promises';
import { GraftError, messageOf } from '@graft/common';
import {
  type Checkpoint,
  type LanguageModel,
  openCheckpoint,
  parseLlama4Config,
  parseLlama4VisionConfig,
  readModelConfig,
  smallConfigs,
} from '@graft/core-model';
import { type LoadedPlugins, nearestNames, type SelectedPlatform } from '@graft/registry';
import { defaultCacheDirectory, type EngineConfig } from '../config.ts';
import { EngineConfigError, NothingToVerifyError } from '../errors.ts';
import type { PlatformChoice } from '../explain-architecture.ts';
import { contextOf } from '../load-model.ts';
import { loadEnginePlugins, parseConfig, type StartOptions } from '../start-engine.ts';
import { Backend, ModelRunner } from '../tokens.ts';
import { promptOf, type VerifyPrompt } from './prompt.ts';
import { fillRandom } from './random-weights.ts';

type Shared = 'mode' | 'configOverrides' | 'overrideOptions' | 'platformOptions' | 'threads' | 'cacheDirectory';

/** What is verified, where. */
export interface VerifySubject extends PlatformChoice, Partial<Pick<EngineConfig, Shared>> {
  /** A checkpoint folder or a .gguf file, whose weights both models get. */
  model?: string;
  /** Instead of that of the config; with neither `model` nor `config`, its small built-in config is taken, with random weights. */
  architecture?: string;
  /** A config.json, for random weights. */
  config?: string;
  /** Of random weights. Default: 1. */
  seed?: number;
}

/** Where weights come from. */
interface WeightSource {
  /** In words. */
  readonly weights: string;
  readonly describe: Pick<Checkpoint, 'config' | 'path'>;
  /** The caller closes it. */
  open(): Promise<Checkpoint>;
  /** Fills the model; null: from the checkpoint. */
  readonly fill: ((model: LanguageModel) => void) | null;
}

/** All that is decided before either model is built. */
export interface Subject {
  readonly architecture: string;
  readonly plugins: LoadedPlugins;
  readonly platform: SelectedPlatform;
  readonly mode: string;
  /** In words. */
  readonly device: string;
  readonly onInterpreter: boolean;
  readonly weights: string;
  readonly source: WeightSource;
  readonly config: EngineConfig;
  readonly prompt: VerifyPrompt;
}

export interface Tokens {
  prompt: string | readonly number[] | undefined;
  maxTokens: number;
}

/** @throws NothingToVerifyError, EngineConfigError, what `promptOf` throws, and what plugins, platform and config end in. */
export async function findSubject(asked: VerifySubject, options: StartOptions, { prompt, maxTokens }: Tokens): Promise<Subject> {
  const source = await sourceOf(asked);
  const plugins = await loadEnginePlugins(asked, options);
  const configOverrides = { ...asked.configOverrides, ...(asked.architecture !== undefined && { architectures: [asked.architecture] }) };
  const { path, config: raw } = source.describe;
  const textConfig = parseLlama4Config(raw, { where: path, overrides: configOverrides });
  const { architecture, platform: name } = requireOverride(plugins, textConfig.architectures, asked.platform);
  const { platform, device, onInterpreter } = await findPlatform(plugins, name, asked.mode);
  const readsImages = plugins.registry.upstreamOf(architecture).capabilities['images'] === true;
  const vision = readsImages ? parseLlama4VisionConfig(raw, { where: path }) : null;
  const given = await promptOf(prompt, { vocabSize: textConfig.vocabSize, tower: vision, path, openCheckpoint: () => source.open() });
  const { mode, overrideOptions = {}, platformOptions = {}, threads, cacheDirectory = defaultCacheDirectory() } = asked;
  const config = parseConfig({
    model: path,
    platform: name,
    configOverrides,
    overrideOptions,
    platformOptions,
    weights: 'float32',
    warmUp: false,
    maxSequences: 1,
    maxModelLength: given.ids.length + maxTokens,
    cacheDirectory,
    auxHiddenStateLayers: Array.from({ length: textConfig.numHiddenLayers + 1 }, (_, layer) => layer),
    ...(mode !== undefined && { mode }),
    ...(threads !== undefined && { threads }),
  });
  const context = contextOf(textConfig, platform, config);
  return {
    architecture,
    plugins,
    platform,
    mode: context.mode,
    device,
    onInterpreter,
    weights: source.weights,
    source,
    config,
    prompt: given,
  };
}

async function sourceOf({ model, config, architecture, seed = 1 }: VerifySubject): Promise<WeightSource> {
  if (model !== undefined && config !== undefined) {
    throw new EngineConfigError('A checkpoint and a config were given.', '--config', 'leave one out: with --config, weights are random.');
  }
  if (model !== undefined) {
    const describe = { path: model, config: await readModelConfig(model) };
    return { weights: `${model}, in float32`, describe, open: () => openCheckpoint(model), fill: null };
  }
  const describe = config === undefined ? smallConfigOf(architecture) : { path: config, config: await readJson(config) };
  const files = { kind: 'safetensors' as const, metadata: null, tensors: new Map(), fingerprint: async () => '', close: () => undefined };
  return {
    weights: `random from seed ${seed}, for ${describe.path}`,
    describe,
    open: async () => ({ ...describe, ...files }),
    fill: (built) => fillRandom(built, seed),
  };
}

function smallConfigOf(architecture: string | undefined): Pick<Checkpoint, 'config' | 'path'> {
  const known = Object.keys(smallConfigs).join(', ');
  if (architecture === undefined) {
    throw new EngineConfigError(
      'Nothing to verify was named.',
      'ARCHITECTURE or --model',
      `name an architecture (${known}), a --model or a --config.`,
    );
  }
  const config = smallConfigs[architecture];
  if (config !== undefined) return { path: `the small config of ${architecture}`, config };
  throw new EngineConfigError(
    `There is no small config of ${architecture}; there is one for each of ${known}.`,
    'ARCHITECTURE',
    `take the nearest one, ${nearestNames(architecture, Object.keys(smallConfigs), 1)[0]}, or give a config.json with --config or a checkpoint with --model.`,
  );
}

async function readJson(path: string): Promise<unknown> {
  try {
    return JSON.parse(await readFile(path, 'utf8'));
  } catch (error) {
    throw new EngineConfigError(`The config cannot be read: ${messageOf(error)}.`, path, 'name a config.json.');
  }
}

/** The architecture that is served, and the platform whose override is meant: where none was named, the only one that has an override. */
function requireOverride(
  plugins: LoadedPlugins,
  architectures: readonly string[],
  named: string | undefined,
): { architecture: string; platform: string } {
  const { architecture } = plugins.registry.resolve(architectures, { platform: named ?? null });
  const listed = plugins.registry.list().find((one) => one.architecture === architecture)?.overrides ?? [];
  const hooked = plugins.hooks.filter((hook) => hook.of === architecture);
  const platforms = [...new Set([...listed, ...hooked].map(({ platform }) => platform))];
  const [only, ...others] = platforms;
  if (named !== undefined ? !platforms.includes(named) : only === undefined) throw new NothingToVerifyError(architecture, named, platforms);
  if (named === undefined && others.length > 0) {
    throw new EngineConfigError(
      `Overrides of ${architecture} serve several platforms: ${platforms.join(', ')}.`,
      '--platform',
      'name the one that is meant.',
    );
  }
  return { architecture, platform: named ?? only! };
}

/** The platform as a start would have it; where it is absent or has nothing that runs models, the interpreter stands in. */
async function findPlatform(
  plugins: LoadedPlugins,
  name: string,
  mode?: string,
): Promise<Pick<Subject, 'platform' | 'device' | 'onInterpreter'>> {
  const standIn = (why: string): string => `the interpreter, in the place of platform "${name}": ${why}`;
  try {
    const platform = await plugins.selectPlatform(name);
    const bindings = plugins.bindings({ platform: name, mode: mode ?? platform.platform.modes[0]! });
    const hasRunner = bindings.some(({ token }) => token === Backend || token === ModelRunner);
    const device = hasRunner ? `${platform.device} (${platform.reason})` : standIn('its plugin binds no backend');
    return { platform, device, onInterpreter: !hasRunner };
  } catch (error) {
    const platform = plugins.platforms.find((candidate) => candidate.name === name);
    if (platform === undefined || !GraftError.is(error) || error.code !== 'GRAFT_PLATFORM_UNAVAILABLE') throw error;
    const standing: SelectedPlatform = { platform, device: 'emulated', reason: error.what, properties: {} };
    return { platform: standing, device: standIn(error.what), onInterpreter: true };
  }
}
