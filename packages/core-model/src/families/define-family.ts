import { describeIssue, keysAt, nearestNames } from '@graft/common';
import type { z } from 'zod';
import { ConfigInvalidError, ConfigOverrideUnknownError } from '../errors.ts';
import { isObject } from '../weights/strict-json.ts';
import type { ModelConfig, ModelFamily, ParseConfigOptions, RawConfig } from './family.ts';

/** A family as its author writes it. `parseConfig` is made from `config`. */
export interface FamilyDeclaration<Config extends ModelConfig>
  extends Omit<ModelFamily<Config>, 'parseConfig' | 'gguf' | 'images' | 'readAs'>,
    Partial<Pick<ModelFamily<Config>, 'gguf' | 'images' | 'readAs'>> {
  /** The schema from config.json, with its `text_config` merged into it, to the family's own config. */
  config: z.ZodType<Config>;
}

/** Makes a family, for `family` of a plugin's `models`. @throws ConfigInvalidError for a `config` that is not a zod schema. */
export function defineFamily<Config extends ModelConfig>({ config: schema, ...declared }: FamilyDeclaration<Config>): ModelFamily<Config> {
  if (typeof schema?.safeParse !== 'function')
    throw new ConfigInvalidError(
      `The family "${declared.name}" has no zod schema as its "config".`,
      `defineFamily("${declared.name}")`,
      'give the schema of its config.json.',
    );
  return Object.freeze({
    gguf: null,
    images: null,
    readAs: {},
    ...declared,
    parseConfig(raw: unknown, { where = 'config.json', overrides = {}, images = true }: ParseConfigOptions = {}): Config {
      const config = override(textConfigOf(raw, where), overrides, schema);
      refuseQuantised(config, where);
      const parsed = schema.safeParse(images ? config : { ...config, vision_config: null });
      if (parsed.success) return parsed.data;
      throw problem(parsed.error, schema, where);
    },
  });
}

/** A plugin's checkpoint format that reads quantised weights gives a config without this key. */
function refuseQuantised({ quantization, quantization_config: quantised = quantization }: RawConfig, where: string): void {
  if (quantised === undefined || quantised === null) return;
  const method = isObject(quantised) ? quantised['quant_method'] : quantised;
  const by = method === undefined ? 'in a form without "quant_method", such as MLX\'s' : `by ${JSON.stringify(method)}`;
  throw new ConfigInvalidError(
    `The weights are quantised ${by}, which no loaded plugin reads.`,
    `${where}, key "quantization_config"`,
    'use a checkpoint that is not quantised, or load a plugin whose checkpoint format reads this one.',
  );
}

/** The error that the schema's rule names, or `ConfigInvalidError`. */
function problem(error: z.ZodError, schema: z.ZodType, where: string): Error {
  const { what, where: key, fix } = describeIssue(error, schema);
  const [issue] = error.issues;
  const named = issue?.code === 'custom' ? (issue.params?.['error'] as typeof ConfigInvalidError | undefined) : undefined;
  return new (named ?? ConfigInvalidError)(what, key === '' ? where : `${where}, key "${key}"`, fix);
}

/** The `architectures` of a config.json, in order. @throws ConfigInvalidError for an empty or missing list. */
export function architecturesOf(raw: unknown, where = 'config.json'): string[] {
  const names = isObject(raw) ? raw['architectures'] : undefined;
  if (Array.isArray(names) && names.length > 0 && names.every((name) => typeof name === 'string')) return names;
  throw new ConfigInvalidError('"architectures" must be a list with at least one name.', `${where}, key "architectures"`);
}

/** A multimodal config has the text model's keys under `text_config`; the outer keys fill in the missing ones. */
function textConfigOf(raw: unknown, where: string): RawConfig {
  if (!isObject(raw)) throw new ConfigInvalidError('The config is not a JSON object.', where);
  const { text_config: text = {}, ...outer } = raw;
  if (!isObject(text)) throw new ConfigInvalidError('"text_config" is not a JSON object.', `${where}, key "text_config"`);
  return { ...outer, ...text };
}

/** A key may be dotted. An object for a nested config replaces its keys one by one. Keys of `text_config` are those of the whole. */
function override(config: RawConfig, overrides: RawConfig, schema: z.ZodType, path: readonly string[] = []): RawConfig {
  const result = { ...config };
  for (const [key, value] of Object.entries(overrides)) {
    const [name, ...rest] = key.split('.') as [string, ...string[]];
    const inner = rest.length > 0 ? { [rest.join('.')]: value } : name.endsWith('_config') && isObject(value) ? value : null;
    const at = (one: string): string => [...path, one].join('.');
    if (name === 'text_config' && inner !== null) {
      Object.assign(result, override(result, inner, schema, [...path, name]));
      continue;
    }
    const inSchema = path.filter((one) => one !== 'text_config');
    const known = [...keysAt(schema, inSchema), ...Object.keys(config)];
    if (!known.includes(name)) throw new ConfigOverrideUnknownError(at(name), nearestNames(name, known, 3).map(at));
    const nested = result[name];
    result[name] = inner === null ? value : override(isObject(nested) ? nested : {}, inner, schema, [...path, name]);
  }
  return result;
}
