import { homedir } from 'node:os';
import { join } from 'node:path';
import { z } from 'zod';
import { EngineConfigError } from './errors.ts';
import { ImageLimits } from './image/image-config.ts';
import { parseWith } from './json-file.ts';

/** The version that the `graft` range of a plugin is checked against. */
export const graftVersion = '0.1.0';

/** All options of a start. The CLI's flags, help and docs are made from this schema. Strict: an unknown key is an error. */
export const EngineConfig = z.strictObject({
  model: z
    .string()
    .min(1)
    .describe(
      'A checkpoint folder (config.json, safetensors, tokenizer.json) or a .gguf file. The command line also takes hf:ORG/REPO[:QUANT or FILE][@REVISION], of the Hugging Face hub.',
    ),
  servedModelName: z.string().min(1).exactOptional().describe("The model's name in the API. Default: the file's or folder's name."),
  platform: z.string().min(1).exactOptional().describe('The platform to run on. Default: the one that has a device, else cpu.'),
  mode: z.string().min(1).exactOptional().describe("The platform's mode. Default: the platform's own default."),
  app: z.string().min(1).exactOptional().describe('The folder whose package.json lists the plugins. Default: the working directory.'),
  plugins: z.array(z.string().min(1)).exactOptional().describe('Plugins as module specifiers, instead of those in package.json.'),
  allowPlugins: z.array(z.string()).exactOptional().describe('Only these of the plugins found (GRAFT_PLUGINS).'),
  architecture: z
    .string()
    .min(1)
    .exactOptional()
    .describe('Read the model as this architecture, if its family allows that. Default: the architecture in its config.'),
  without: z
    .array(z.string().min(1))
    .default([])
    .describe('Hooks and overrides to switch off, each as "plugin: name". This helps to find the one at fault.'),
  requireOverride: z.boolean().default(false).describe('Fail if no override serves.'),
  images: z.boolean().default(true).describe('Read images if the model can; otherwise only its text part is built and loaded.'),
  configOverrides: z.record(z.string(), z.unknown()).default({}).describe("Keys that replace those of the model's config.json, as JSON."),
  overrideOptions: z
    .record(z.string(), z.unknown())
    .default({})
    .describe('Options of the override that serves, by its own names, as JSON. Default: none.'),
  weights: z
    .enum(['auto', 'float32'])
    .default('auto')
    .describe("auto: the platform's faithful form of each weight; float32: exact and slower."),
  maxSequences: z.int().min(1).max(256).default(8).describe('Sequences served at once; each holds one KV slot.'),
  maxModelLength: z
    .int()
    .positive()
    .exactOptional()
    .describe("Tokens of a sequence, prompt and answer. Default: the model's limit, at most 8192."),
  generationConfig: z
    .string()
    .min(1)
    .default('auto')
    .describe(
      "Where a request's defaults come from: auto (the model's generation_config.json), none (also: vllm), or a file or folder with another one.",
    ),
  prefillTokens: z.int().positive().default(256).describe('Tokens of a prompt in one prefill piece.'),
  numSpeculativeTokens: z
    .int()
    .nonnegative()
    .default(0)
    .describe(
      'The most tokens that prompt lookup proposes in a step of an answer that is alone; fewer, or none, where that is faster. The answer stays the same.',
    ),
  promptLookupMax: z.int().positive().default(4).describe('The most of the latest tokens that prompt lookup searches for.'),
  promptLookupMin: z.int().positive().default(2).describe('The least of the latest tokens that must have occurred before.'),
  threads: z.int().positive().exactOptional().describe('Threads of a run. Default: the physical cores.'),
  cacheDirectory: z
    .string()
    .min(1)
    .exactOptional()
    .describe("Where converted weights are kept. Default: graft/ in the user's cache folder."),
  cacheBytes: z
    .int()
    .nonnegative()
    .default(20 * 2 ** 30)
    .describe(
      'Limit in bytes for converted weights and compiled graphs. Entries that were used least recently are removed, and entries unused for 30 days.',
    ),
  platformOptions: z
    .record(z.string(), z.unknown())
    .default({})
    .describe(
      'Options of the platform, by its own names, as JSON; its plugin checks them. `backend` names one of several backends. Default: none.',
    ),
  warmUp: z
    .boolean()
    .default(true)
    .describe(
      'With static shapes: capture, compile and run every bucket before the first request. Otherwise each bucket is made when it is needed.',
    ),
  onRecompile: z
    .enum(['allow', 'warn', 'fail'])
    .default('warn')
    .describe('If a request needs a graph that the warm-up did not make: make it, make it and log it, or fail the request.'),
  ...ImageLimits.shape,
  auxHiddenStateLayers: z.array(z.int().nonnegative()).default([]).describe('Layers whose incoming residual stream a request may ask for.'),
});
export type EngineConfig = z.output<typeof EngineConfig>;

/** @throws EngineConfigError */
export function parseConfig(config: unknown): EngineConfig {
  const parsed = parseWith(EngineConfig, config, (what, key, fix) => new EngineConfigError(what, key || 'config', fix));
  const { promptLookupMin: least, promptLookupMax: most } = parsed;
  if (least <= most) return parsed;
  throw new EngineConfigError(`promptLookupMin is ${least}, more than promptLookupMax, which is ${most}.`, 'promptLookupMin');
}

/** `$XDG_CACHE_HOME/graft/weights`, or ~/.cache/graft/weights. */
export function defaultCacheDirectory(): string {
  const base = process.env['XDG_CACHE_HOME'];
  return join(base !== undefined && base !== '' ? base : join(homedir(), '.cache'), 'graft', 'weights');
}

/** Whether the environment variable `CI` is set, and not to 0 or false. */
export function isContinuousIntegration(): boolean {
  return !['', '0', 'false'].includes(process.env['CI'] ?? '');
}
