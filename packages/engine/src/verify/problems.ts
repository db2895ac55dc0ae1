import type { EngineInfo } from '../engine.ts';

/** A model's parameters before its weights are loaded: shapes by name. */
export type Parameters = ReadonlyMap<string, readonly number[]>;

/** The faults that equal numbers do not show, one sentence each: parameters that differ from upstream's, and parts of an override without effect. */
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
    ...added.map((name) => `The parameter "${name}" is in no checkpoint: upstream has no parameter of that name.`),
    ...missing.map((name) => `Upstream's parameter "${name}" is missing: nothing takes its weights.`),
    ...reshaped.map(
      ([name, shape]) => `The parameter "${name}" has shape [${shape.join(', ')}]; upstream's is [${upstream.get(name)!.join(', ')}].`,
    ),
  ];
}

function overrideProblems({ architecture, candidates, layers, hooks }: EngineInfo['resolution']): string[] {
  const isOff = (reason: string): boolean => reason === 'condition' || reason === 'without';
  return [
    ...[{ name: architecture, candidates }, ...layers].flatMap(({ name, candidates: all }) =>
      all.flatMap(({ kind, plugin, reason, detail, replaced }) => {
        const override = `The override of ${name} by plugin "${plugin}"`;
        if (isOff(reason)) return [`${override} does not serve: ${detail}.`];
        const isIdle = kind !== 'upstream' && ['selected', 'base', 'scoped'].includes(reason) && replaced?.count === 0;
        return isIdle ? [`${override} replaced nothing in this model.`] : [];
      }),
    ),
    ...hooks.flatMap(({ hook, plugin, reason, detail }) =>
      isOff(reason) ? [`The hook ${hook} of plugin "${plugin}" does not run: ${detail}.`] : [],
    ),
  ];
}

function hookProblems({ hooks, patches, renames }: EngineInfo['changes']): string[] {
  const effective = new Set([...patches, ...renames].map(({ hook }) => hook));
  const idle = hooks.filter(
    ({ hook, outcome, warnings, reload }) => outcome === 'ran' && warnings.length === 0 && reload !== 'rerun' && !effective.has(hook),
  );
  // A patch of many layers may be read in only some of them, those that have the branch.
  const unread = patches.filter(({ read, readBy, coveredBy }) => read === 0 && readBy === null && coveredBy === null);
  return [
    ...idle.map(({ hook, plugin, unrecorded: [first, ...others] }) => {
      const more = others.length === 0 ? '' : `, and ${others.length} more`;
      const did = first === undefined ? 'ran and changed nothing' : `made changes without its \`patches\`: ${first}${more}`;
      return `The hook ${hook} of plugin "${plugin}" ${did}.`;
    }),
    ...unread.map(({ count, operation, target, paths, hook }) => {
      const others = count === 1 ? '' : ` and ${count - 1} more`;
      return `The ${operation} of ${target} at ${paths[0] || 'the model'}${others} (${hook}) is never read by \`forward\`.`;
    }),
  ];
}
