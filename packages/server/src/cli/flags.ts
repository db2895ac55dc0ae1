import { GraftError } from '@graft/common';
import { EngineConfig } from '@graft/engine/starter';
import { type Command, InvalidArgumentError, Option } from 'commander';
import { z } from 'zod';
import { type Environment, splitList } from './config.ts';

/** The command line asks for something that does not exist or is out of range. */
export class UsageError extends GraftError {
  constructor(what: string, where: string, fix = 'run the command with --help for its flags.') {
    super({ code: 'GRAFT_CLI_USAGE', what, where, fix });
  }
}

/** The part of a key's schema that its flag needs. */
interface KeySchema {
  type?: string;
  description?: string;
  default?: unknown;
  enum?: unknown[];
  items?: { type?: string };
}

export type EngineKey = keyof z.input<typeof EngineConfig>;

/** Adds one flag for each of the keys of `EngineConfig`: `maxSequences` -> `--max-sequences <number>`. */
export function addEngineFlags(command: Command, keys?: EngineKey[]): Command {
  for (const [key, schema] of engineKeys()) {
    if (keys === undefined || keys.includes(key as EngineKey)) command.addOption(flagOf(key, schema));
  }
  return command;
}

/** The engine's keys among a command's parsed options, without those that were not given. */
export function engineOptions(options: Record<string, unknown>): Record<string, unknown> {
  const keys = new Set(engineKeys().map(([key]) => key));
  return Object.fromEntries(Object.entries(options).filter(([key, value]) => keys.has(key) && value !== undefined));
}

/** The engine's keys among a command's options and in the environment, each with the type that its flag gave it. */
export function askedOf<Asked>(options: Record<string, unknown>, { allowPlugins }: Environment): Asked {
  return { ...(allowPlugins === undefined ? {} : { allowPlugins }), ...engineOptions(options) } as Asked;
}

/** @throws UsageError naming the flag. */
export function checkEngineConfig(config: Record<string, unknown>): z.input<typeof EngineConfig> {
  const parsed = EngineConfig.safeParse(config);
  if (parsed.success) return config as z.input<typeof EngineConfig>;
  const issue = parsed.error.issues[0]!;
  throw new UsageError(issue.message, `--${kebab(String(issue.path[0] ?? ''))}`);
}

function engineKeys(): [string, KeySchema][] {
  return Object.entries(z.toJSONSchema(EngineConfig, { io: 'input' }).properties ?? {}) as [string, KeySchema][];
}

function flagOf(key: string, schema: KeySchema): Option {
  const { placeholder, parse } = readerOf(schema);
  // An empty list or object as the default would add nothing to the description.
  const isWorthSaying = schema.default !== undefined && typeof schema.default !== 'object';
  const note = isWorthSaying ? ` (default: ${JSON.stringify(schema.default)})` : '';
  if (schema.type === 'boolean') return switchOf(key, schema);
  const option = new Option(`--${kebab(key)} <${placeholder}>`, `${schema.description ?? ''}${note}`);
  if (schema.enum !== undefined) return option.choices(schema.enum.map(String));
  return parse === undefined ? option : option.argParser(parse);
}

/** `--key`, or `--no-key` to turn off what is on by default. */
function switchOf(key: string, { description = '', default: isOn }: KeySchema): Option {
  return isOn === true
    ? new Option(`--no-${kebab(key)}`, `${description} This flag turns it off.`)
    : new Option(`--${kebab(key)}`, description);
}

function readerOf({ type, items }: KeySchema): { placeholder: string; parse?: (text: string, previous: unknown) => unknown } {
  if (type === 'integer') return { placeholder: 'number', parse: wholeNumber };
  if (type === 'object') return { placeholder: 'json', parse: jsonObject };
  if (type !== 'array') return { placeholder: 'text' };
  const read = (text: string) => (items?.type === 'integer' ? wholeNumber(text) : text);
  return {
    placeholder: 'list',
    // Given more than once, a list grows.
    parse: (text, previous) => [...(Array.isArray(previous) ? previous : []), ...splitList(text).map(read)],
  };
}

/** A commander parser. */
export function wholeNumber(text: string): number {
  if (!/^-?\d+$/.test(text)) throw new InvalidArgumentError('It must be a whole number.');
  return Number(text);
}

function jsonObject(text: string): unknown {
  try {
    const value: unknown = JSON.parse(text);
    if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value;
  } catch {
    // Refused below.
  }
  throw new InvalidArgumentError('It must be a JSON object, e.g. \'{"rope_theta": 500000}\'.');
}

function kebab(key: string): string {
  return key.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
}
