import { GraftError, requireOneCopy } from '@graft/common';
import { listedPlugins, requireApp, resolveSpecifier } from './discover.ts';
import { ModuleFailedError } from './errors.ts';
import { type ImportFailure, importFailure } from './import-failure.ts';
import { LoadedPlugins, matches, ownerOf, type PluginSource } from './loaded-plugins.ts';
import { isPlugin, type Plugin } from './plugin.ts';
import { NotAPluginError, PluginCycleError, PluginMissingError, UnknownPluginError } from './plugin-errors.ts';
import { readyFor } from './typescript.ts';

export interface LoadPluginsOptions {
  /** Where the application is; its nearest package.json lists the plugins (`graft.plugins`) and is what names are resolved from. Default: the working directory. */
  from?: string;
  /** Package names, paths or file URLs, in the place of what package.json lists. */
  specifiers?: readonly string[];
  /** Used when package.json lists none. */
  defaults?: readonly string[];
  /** Where `defaults` are resolved from; `from` unless given. */
  defaultsFrom?: string;
  /** The names (or specifiers) that may be loaded; all when left out, none when empty. Plugins passed in code are not found, and not subject to it. */
  allow?: readonly string[] | undefined;
  /** Plugins passed in code. They come first, and cannot follow into a worker. */
  plugins?: readonly Plugin[];
  /** The version that a plugin's `graft` range is held against. */
  graftVersion: string;
}

/**
 * Finds, orders and loads plugins: all of them, or none and an error.
 * @throws PluginNotFoundError, TwoCopiesError, ModuleFailedError, NotAPluginError, UnknownPluginError, PluginMissingError, PluginCycleError and what
 * `LoadedPlugins.add` throws.
 */
export async function loadPlugins(options: LoadPluginsOptions): Promise<LoadedPlugins> {
  requireOneCopy();
  const passed = (options.plugins ?? []).map((plugin): PluginSource => ({ plugin, file: null, specifier: null }));
  const sources = [...passed, ...(await findPlugins(options))];
  const loaded = new LoadedPlugins(options);
  for (const source of orderPlugins(sources)) await loaded.add(source);
  return loaded;
}

async function findPlugins({ allow, plugins = [], from = process.cwd(), ...options }: LoadPluginsOptions): Promise<PluginSource[]> {
  requireApp(from);
  const listed = options.specifiers ?? listedPlugins(from);
  const specifiers = listed ?? options.defaults ?? [];
  const base = listed === null ? (options.defaultsFrom ?? from) : from;
  const results = await Promise.allSettled(specifiers.map((specifier) => importPlugin(specifier, base, plugins)));
  const found = results.flatMap((result) => (result.status === 'fulfilled' ? [result.value] : []));
  const isKnown = (name: string) => found.some((source) => matches(source, name)) || plugins.some((plugin) => plugin.name === name);
  const unknown = (allow ?? []).filter((name) => !isKnown(name));
  for (const [index, result] of results.entries()) {
    // With an allow list, a plugin that cannot be imported matters only if it may be one that was named.
    if (result.status === 'rejected' && (allow === undefined || unknown.length > 0 || allow.includes(specifiers[index]!)))
      throw result.reason;
  }
  if (unknown.length > 0)
    throw new UnknownPluginError(unknown, [...plugins.map(({ name }) => name), ...found.map(({ plugin }) => plugin.name)]);
  return allow === undefined ? found : found.filter((source) => allow.some((name) => matches(source, name)));
}

async function importPlugin(specifier: string, base: string, passed: readonly Plugin[]): Promise<PluginSource> {
  const file = resolveSpecifier(specifier, base);
  await readyFor(file);
  let module: { default?: unknown };
  try {
    module = await import(/* @vite-ignore */ file);
  } catch (cause) {
    requireOneCopy();
    throw moduleFailure(specifier, file, cause, await importFailure(cause, file));
  }
  requireOneCopy();
  const plugin = defaultOf(module);
  if (!isPlugin(plugin)) {
    const named = Object.entries(module).flatMap(([name, value]) => (isPlugin(value) ? [name] : []));
    const known = named.flatMap((name) => passed.filter((one) => one === (module as Record<string, unknown>)[name]));
    const fix = known[0] && `take it out: the plugin "${known[0].name}" is always loaded.`;
    throw new NotAPluginError(specifier, file, plugin, named, fix);
  }
  return { plugin, file, specifier };
}

/** The default export. Of a CommonJS module, Node takes the whole of `exports` for it: a compiler's `exports.default` is below. */
function defaultOf({ default: given }: { default?: unknown }): unknown {
  const inner = (given as { default?: unknown } | null | undefined)?.default;
  return isPlugin(inner) ? inner : given;
}

/** A Graft error (a malformed declaration) keeps its code and gains the file. */
function moduleFailure(specifier: string, file: string, cause: unknown, failure: ImportFailure): GraftError {
  if (!GraftError.is(cause)) return new ModuleFailedError(`The plugin "${specifier}"`, file, cause, failure);
  const where = cause.where === undefined ? file : `${cause.where}, ${file}`;
  return new GraftError({ code: cause.code, what: cause.what, where, ...(cause.fix === undefined ? {} : { fix: cause.fix }), cause });
}

/**
 * Each plugin after those that it names in `after`; otherwise in the order given.
 * @throws PluginMissingError, PluginCycleError naming the circle.
 */
export function orderPlugins(sources: readonly PluginSource[]): PluginSource[] {
  const names = sources.map(({ plugin }) => plugin.name);
  const ordered: PluginSource[] = [];
  const visiting: string[] = [];
  const visit = (source: PluginSource) => {
    const { name, after = [] } = source.plugin;
    if (ordered.includes(source)) return;
    if (visiting.includes(name)) throw new PluginCycleError([...visiting.slice(visiting.indexOf(name)), name]);
    visiting.push(name);
    for (const wanted of after) {
      const needed = sources.filter(({ plugin }) => plugin.name === wanted);
      if (needed.length === 0) throw new PluginMissingError(ownerOf(source), wanted, names);
      needed.forEach(visit);
    }
    visiting.pop();
    ordered.push(source);
  };
  sources.forEach(visit);
  return ordered;
}
