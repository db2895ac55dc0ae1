import type { Plugin } from './plugin.ts';
import { PluginSetsDifferError } from './plugin-errors.ts';

/** What one plugin declares, without its functions. */
export interface PluginRecord {
  readonly name: string;
  readonly version: string | null;
  readonly after: readonly string[];
  readonly platforms: readonly string[];
  readonly models: readonly string[];
  readonly layers: readonly string[];
  readonly overrides: readonly string[];
  readonly hooks: readonly string[];
  readonly retired: readonly string[];
}

export function pluginRecord(plugin: Plugin): PluginRecord {
  return {
    name: plugin.name,
    version: plugin.version ?? null,
    after: [...(plugin.after ?? [])],
    platforms: (plugin.platforms ?? []).map(({ name }) => name),
    models: (plugin.models ?? []).map(({ architecture }) => architecture),
    layers: Object.keys(plugin.layers ?? {}),
    overrides: (plugin.overrides ?? []).map(
      ({ of, platform, priority, factory }) =>
        `${of} on ${platform}, ${factory === undefined ? 'subclass' : 'factory'}, priority ${priority ?? 0}`,
    ),
    hooks: (plugin.hooks ?? []).map(
      ({ of, platform, phase, modes }) => `${of} on ${platform}, ${phase}, modes ${modes?.join(' ') ?? 'all'}`,
    ),
    retired: Object.keys(plugin.retired ?? {}),
  };
}

/**
 * Compares the plugins of this process with those of the one that started it.
 * @throws PluginSetsDifferError with what differs.
 */
export function assertSamePluginSet(expected: readonly PluginRecord[], actual: readonly PluginRecord[]): void {
  const differences = diffPluginSets(expected, actual);
  if (differences.length > 0) throw new PluginSetsDifferError(differences);
}

/** What differs between two sets of plugins, a sentence each. */
export function diffPluginSets(expected: readonly PluginRecord[], actual: readonly PluginRecord[]): string[] {
  const differences: string[] = [];
  for (const record of expected) {
    const other = actual.find(({ name }) => name === record.name);
    if (other === undefined) differences.push(`plugin "${record.name}" is missing`);
    else differences.push(...fieldDifferences(record, other));
  }
  for (const { name } of actual)
    if (!expected.some((record) => record.name === name)) differences.push(`plugin "${name}" was not expected`);
  if (differences.length > 0) return differences;
  const [order, actualOrder] = [expected, actual].map((records) => records.map(({ name }) => name).join(', '));
  return order === actualOrder ? [] : [`the order is ${actualOrder}, and ${order} was expected`];
}

function fieldDifferences(expected: PluginRecord, actual: PluginRecord): string[] {
  return (Object.keys(expected) as (keyof PluginRecord)[]).flatMap((field) => {
    const [was, is] = [JSON.stringify(expected[field]), JSON.stringify(actual[field])];
    return was === is ? [] : [`plugin "${expected.name}" has ${field} ${is}, and ${was} was expected`];
  });
}
