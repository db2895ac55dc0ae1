import type { EngineInfo } from '../engine.ts';

/** A model's parameters before its weights are loaded: shapes by name. */
export type Parameters = ReadonlyMap<string, readonly number[]>;

/** What equal numbers do not show: parameters that differ from upstream's, and what an override brings without any effect. Each a sentence. */
export function problemsOf(parameters: { upstream: Parameters; override: Parameters } | null, info: EngineInfo | null): string[] {
  return [
    ...(parameters === null ? [] : parameterProblems(parameters.upstream, parameters.override)),
    ...(info === null ? [] : [...overrideProblems(info.resolution), ...hookProblems(info.changes)]),
  ];
}

function parameterProblems(upstream: Parameters, override: Parameters): string[] {
  const added = [...override.keys()].filter((name) => !upstream.has(name));
  const missing = [...upstream.keys()].filter((name) => !override.has(name));
  const reshaped = [...override].filter(([name, shape]) => upstream.has(name) && String(upstream.get(name)) !== String(shape));
  return [
    ...added.map((name) => `The parameter "${name}" is in no checkpoint: upstream has none of that name.`),
    ...missing.map((name) => `Upstream's parameter "${name}" is missing: nothing takes its weights.`),
    ...reshaped.map(
      ([name, shape]) => `The parameter "${name}" is [${shape.join(', ')}], and [${upstream.get(name)!.join(', ')}] upstream.`,
    ),
  ];
}

function overrideProblems({ architecture, candidates, layers }: EngineInfo['resolution']): string[] {
  return [{ name: architecture, candidates }, ...layers].flatMap(({ name, candidates: all }) =>
    all.flatMap(({ kind, plugin, reason, replaced }) =>
      kind !== 'upstream' && ['selected', 'base', 'scoped'].includes(reason) && replaced?.count === 0
        ? [`The override of ${name} by plugin "${plugin}" replaced nothing in this model.`]
        : [],
    ),
  );
}

function hookProblems({ hooks, patches, renames }: EngineInfo['changes']): string[] {
  const effective = new Set([...patches, ...renames].map(({ hook }) => hook));
  const idle = hooks.filter(
    ({ hook, outcome, warnings, reload }) => outcome === 'ran' && warnings.length === 0 && reload !== 'rerun' && !effective.has(hook),
  );
  // The same patch of many layers may well be read on some alone: those that have the branch.
  const unread = patches.filter(({ read, readBy, coveredBy }) => read === 0 && readBy === null && coveredBy === null);
  return [
    ...idle.map(({ hook, plugin }) => `The hook ${hook} of plugin "${plugin}" ran and changed nothing.`),
    ...unread.map(({ count, operation, target, paths, hook }) => {
      const others = count === 1 ? '' : ` and ${count - 1} more`;
      return `The ${operation} of ${target} at ${paths[0] || 'the model'}${others} (${hook}) is never read by \`forward\`.`;
    }),
  ];
}
