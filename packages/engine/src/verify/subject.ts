import { statSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { GraftError, messageOf } from '@graft/common';
import type { Checkpoint, LanguageModel, ModelFamily, RawConfig } from '@graft/core-model';
import { type LoadedPlugins, nearestNames, type Resolution, type SelectedPlatform } from '@graft/registry';
import { defaultCacheDirectory, EngineConfig, parseConfig } from '../config.ts';
import { readFiles } from '../default-services.ts';
import { EngineConfigError, NoFamilyError, NothingToVerifyError } from '../errors.ts';
import { noPlatform, type PlatformChoice } from '../explain.ts';
import { lengthOf, type ModelChoice, modeOf, servesImages } from '../load-model.ts';
import { configAlone, type ModelSource, readSource } from '../model-source.ts';
import { loadEnginePlugins, type StartOptions } from '../start-engine.ts';
import { Backend, Backends, type ModelFiles, ModelRunner } from '../tokens.ts';
import { promptOf, type VerifyPrompt } from './prompt.ts';
import { fillRandom } from './random-weights.ts';

/** The model to verify, and its platform. */
export interface VerifySubject
  extends PlatformChoice,
    Omit<ModelChoice, 'maxModelLength'>,
    Partial<Pick<EngineConfig, 'platformOptions' | 'threads' | 'cacheDirectory'>> {
  /** A checkpoint folder or a .gguf file. Both models get its weights. */
  model?: string;
  /** Replaces the config's architecture. Without `model` and `config`, its small built-in config is used, with random weights. */
  architecture?: string;
  /** A config.json, for random weights. */
  config?: string;
  /** Of random weights. Default: 1. */
  seed?: number;
}

/** The source of the weights. */
interface WeightSource {
  /** In words. */
  readonly weights: string;
  /** The caller closes it. */
  open(files: ModelFiles): Promise<Checkpoint>;
  /** Fills the model with random weights; null: the checkpoint's are loaded. */
  readonly fill: ((model: LanguageModel) => void) | null;
}

/** The decisions that precede building either model. */
export interface Subject extends WeightSource {
  readonly architecture: string;
  readonly plugins: LoadedPlugins;
  readonly platform: SelectedPlatform;
  readonly mode: string;
  /** In words. */
  readonly device: string;
  readonly onInterpreter: boolean;
  /** Of the config alone. */
  readonly source: ModelSource;
  readonly config: EngineConfig;
  readonly prompt: VerifyPrompt;
}

/** @throws NothingToVerifyError, EngineConfigError, and the errors of `promptOf`, plugins, platform and config. */
export async function findSubject(
  asked: VerifySubject,
  options: StartOptions,
  prompt: string | readonly number[] | undefined,
  maxTokens: number,
): Promise<Subject> {
  const plugins = await loadEnginePlugins(asked, options);
  const { registry } = plugins;
  const families = await registry.families<ModelFamily>();
  const { describe, ...weights } = await sourceOf(asked, plugins, families);
  const source = await readSource(registry, describe, asked.architecture);
  const { architectures, raw } = source;
  const { architecture, platform: name } = requireOverride(plugins, architectures, asked.platform);
  const { platform, device, onInterpreter } = await findPlatform(plugins, name, asked.mode);
  const mode = modeOf(platform, asked);
  const { without = [], requireOverride: required = false } = asked;
  const resolution = registry.resolve(architectures, { platform: name, mode, device: platform, without, requireOverride: required });
  const changes = changesOf(resolution).filter((one) => one.platform === name);
  if (!changes.some(({ reason }) => ['selected', 'base', 'scoped', 'runs'].includes(reason)))
    throw new NothingToVerifyError(architecture, name, { refused: changes });
  const family = families.get(architecture);
  if (family === undefined) throw new NoFamilyError(architecture, registry.upstreamOf(architecture).chain[0]!.plugin);
  const images = servesImages(asked, registry.upstreamOf(architecture));
  const { path } = describe;
  const model = family.parseConfig(raw, { where: path, overrides: asked.configOverrides ?? {}, images });
  const tower = images ? (family.images?.tower(model) ?? null) : null;
  const readText = () =>
    readFiles(plugins, platform, asked, async (files) => {
      using checkpoint = await weights.open(files);
      return await files.text(checkpoint);
    });
  const given = await promptOf(prompt, { vocabSize: model.vocabSize, tower, path, readText });
  const config = parseConfig({
    ...Object.fromEntries(Object.entries(asked).filter(([key]) => Object.hasOwn(EngineConfig.shape, key))),
    model: path,
    platform: name,
    weights: 'float32',
    warmUp: false,
    maxSequences: 1,
    maxModelLength: given.ids.length + maxTokens,
    cacheDirectory: asked.cacheDirectory ?? defaultCacheDirectory(),
    auxHiddenStateLayers: Array.from({ length: model.numHiddenLayers + 1 }, (_, layer) => layer),
  });
  lengthOf(model, config);
  return {
    architecture,
    plugins,
    platform,
    mode,
    device,
    onInterpreter,
    ...weights,
    source,
    config,
    prompt: given,
  };
}

async function sourceOf(
  { model, config, architecture, seed = 1, ...asked }: VerifySubject,
  plugins: LoadedPlugins,
  families: ReadonlyMap<string, ModelFamily>,
): Promise<WeightSource & { describe: Checkpoint }> {
  if (model !== undefined && config !== undefined) {
    throw new EngineConfigError(
      'Both a checkpoint and a config are given.',
      '--config',
      'leave one out; with --config, weights are random.',
    );
  }
  if (model !== undefined) {
    const platform = plugins.platforms.find(({ name }) => name === asked.platform) ?? noPlatform;
    const describe = await readFiles(plugins, { platform }, asked, (files) => files.config(model));
    return { weights: `${model}, in float32`, describe, open: (files) => files.open(model), fill: null };
  }
  const describe = config === undefined ? smallConfigOf(architecture, families) : await readConfig(config);
  const weights = `random from seed ${seed}, for ${describe.path}`;
  return { weights, describe, open: async () => describe, fill: (built) => fillRandom(built, seed) };
}

function smallConfigOf(architecture: string | undefined, families: ReadonlyMap<string, ModelFamily>): Checkpoint {
  const small = Object.assign({}, ...[...families.values()].map((family) => family.small())) as Record<string, RawConfig>;
  const known = Object.keys(small).join(', ');
  if (architecture === undefined) {
    throw new EngineConfigError(
      'Neither an architecture nor a model is named.',
      'ARCHITECTURE or --model',
      `name an architecture (${known}), a --model or a --config.`,
    );
  }
  const config = small[architecture];
  if (config !== undefined) return configAlone(`the small config of ${architecture}`, config);
  throw new EngineConfigError(
    `No loaded family has a small config of ${architecture}. Small configs exist for ${known}.`,
    'ARCHITECTURE',
    `use the nearest one, ${nearestNames(architecture, Object.keys(small), 1)[0]}, or give a config.json with --config or a checkpoint with --model.`,
  );
}

/** @param path of a config.json, or of its folder. */
async function readConfig(path: string): Promise<Checkpoint> {
  const file = statSync(path, { throwIfNoEntry: false })?.isDirectory() === true ? join(path, 'config.json') : path;
  try {
    return configAlone(file, JSON.parse(await readFile(file, 'utf8')));
  } catch (error) {
    throw new EngineConfigError(`The config cannot be read: ${messageOf(error)}.`, file, 'name a config.json, or its folder.');
  }
}

/** The served architecture, and the platform with an override or a hook for it. Without a named platform there must be exactly one. */
function requireOverride(
  { registry, platforms }: LoadedPlugins,
  architectures: readonly string[],
  named: string | undefined,
): { architecture: string; platform: string } {
  const { architecture } = registry.resolve(architectures, { platform: null });
  const changesOn = (platform: string | null) => changesOf(registry.resolve(architectures, { platform }));
  const touches = (platform: string): boolean => changesOn(platform).some((one) => one.platform === platform);
  const names = platforms.map(({ name }) => name);
  const touched = names.filter(touches);
  const [only, ...others] = touched;
  if (named !== undefined ? !touches(named) : only === undefined) {
    const unknown = changesOn(null).filter(({ platform }) => !names.includes(platform!));
    throw new NothingToVerifyError(architecture, named, { touched, unknown });
  }
  if (named === undefined && others.length > 0) {
    throw new EngineConfigError(
      `Overrides of ${architecture} serve several platforms: ${touched.join(', ')}.`,
      '--platform',
      'name one of them.',
    );
  }
  return { architecture, platform: named ?? only! };
}

/** The overrides and hooks that a resolution judged. */
function changesOf({ candidates, layers, hooks }: Resolution) {
  return [...candidates, ...layers.flatMap((layer) => layer.candidates), ...hooks].filter((one) => one.platform !== null);
}

/** The platform as in a start. If it is absent or its plugin binds nothing that runs models, the interpreter replaces it. */
async function findPlatform(
  plugins: LoadedPlugins,
  name: string,
  mode?: string,
): Promise<Pick<Subject, 'platform' | 'device' | 'onInterpreter'>> {
  const standIn = (why: string): string => `the interpreter, in place of platform "${name}": ${why}`;
  try {
    const platform = await plugins.selectPlatform(name);
    const bindings = plugins.bindings({ platform: name, mode: mode ?? platform.platform.modes[0]! });
    const hasRunner = bindings.some(({ token }) => token === Backend || token === Backends || token === ModelRunner);
    const device = hasRunner ? `${platform.device} (${platform.reason})` : standIn('its plugin binds no backend');
    return { platform, device, onInterpreter: !hasRunner };
  } catch (error) {
    const platform = plugins.platforms.find((candidate) => candidate.name === name);
    if (platform === undefined || !GraftError.is(error) || error.code !== 'GRAFT_PLATFORM_UNAVAILABLE') throw error;
    const standing: SelectedPlatform = { platform, device: 'emulated', reason: error.what, properties: {} };
    return { platform: standing, device: standIn(error.what), onInterpreter: true };
  }
}
