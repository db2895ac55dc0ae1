import type { Plugin } from './plugin.ts';
import { PluginSetsDifferError } from './plugin-errors.ts';

export type PluginRecord = Readonly<ReturnType<typeof pluginRecord>>;

/** One plugin's declaration, without its functions. */
export function pluginRecord(plugin: Plugin) {
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
 * @throws PluginSetsDifferError with every difference.
 */
export function assertSamePluginSet(expected: readonly PluginRecord[], actual: readonly PluginRecord[]): void {
  const differences = expected.flatMap((record) => {
    const other = actual.find(({ name }) => name === record.name);
    if (other === undefined) return [`plugin "${record.name}" is missing`];
    return (Object.keys(record) as (keyof PluginRecord)[]).flatMap((field) => {
      const [was, is] = [JSON.stringify(record[field]), JSON.stringify(other[field])];
      return was === is ? [] : [`plugin "${record.name}" has ${field} ${is}, and ${was} was expected`];
    });
  });
  for (const { name } of actual)
    if (!expected.some((record) => record.name === name)) differences.push(`plugin "${name}" was not expected`);
  const [order, actualOrder] = [expected, actual].map((records) => records.map(({ name }) => name).join(', '));
  if (differences.length === 0 && order !== actualOrder) differences.push(`the order is ${actualOrder}, and ${order} was expected`);
  if (differences.length > 0) throw new PluginSetsDifferError(differences);
}
