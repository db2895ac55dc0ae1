import type { HookRecord, HookRunnerRecord } from './hook-runner.ts';
import type { PatchRecord } from './patch-ledger.ts';
import type { Candidate, Resolution, ResolvedHook } from './resolution.ts';

/** A resolution in words, from its data, so that it can be rendered on either side of a worker boundary. */
export function explain({ layers, hooks, passedOver, chain, candidates, ...about }: Resolution): string {
  const lines = [headline(about, chain)];
  for (const { architecture, reason, detail } of passedOver) lines.push(`  passed over ${architecture} (${reason}): ${detail}`);
  lines.push('  class chain, upstream first:');
  lines.push(...chain.map((link, index) => `    ${index + 1}. ${chainLine(link)}`));
  lines.push('  candidates:', ...candidates.map((candidate) => `    ${candidateLine(candidate)}`));
  for (const { name, plugin, candidates: all } of layers) {
    const overrides = all.filter(({ kind }) => kind !== 'upstream');
    lines.push(`  ${name} of plugin "${plugin}":`, ...overrides.map((one) => `    ${candidateLine(one)}${replacedText(one)}`));
  }
  if (hooks.length > 0) lines.push('  hooks that plugins declare:', ...hooks.map((hook) => `    ${declaredHookLine(hook)}`));
  const hookOnly = new Set(hooks.filter(({ reason }) => reason === 'runs').map(({ plugin }) => plugin));
  for (const one of [...candidates, ...layers.flatMap((layer) => layer.candidates)])
    if (one.kind !== 'upstream') hookOnly.delete(one.plugin);
  if (hookOnly.size > 0) lines.push(`  plugins with hooks and no override here: ${[...hookOnly].join(', ')}`);
  return lines.join('\n');
}

function headline(
  { architecture, platform, mode }: Pick<Resolution, 'architecture' | 'platform' | 'mode'>,
  chain: readonly Candidate[],
): string {
  const top = chain.at(-1)!;
  const served = `${top.className ?? `the ${top.kind === 'upstream' ? 'upstream class' : top.kind}`} of plugin "${top.plugin}"`;
  const where = platform === null ? 'upstream' : `platform "${platform}"${mode === null ? '' : `, mode "${mode}"`}`;
  return `${architecture} (${where}) is served by ${served}`;
}

function chainLine({ className, kind, plugin, priority, file }: Candidate): string {
  return `${className ?? '(not imported)'}: ${kind} of plugin "${plugin}"${priorityText(priority)}${file === null ? '' : ` (${file})`}`;
}

function candidateLine({ plugin, kind, platform, priority, modes, required, reason, detail, contract, contractNotes }: Candidate): string {
  const rank = `${platform === null ? '' : `, platform "${platform}"`}${priorityText(priority)}`;
  const notes = contractNotes.map((note) => `\n      ${note}`).join('');
  const drift = contract === 'none' ? '' : `; contract ${contract}${notes === '' ? '' : ':'}${notes}`;
  return `[${reason}] ${plugin} (${kind}${rank}${modesText(modes)}${required ? ', required' : ''}): ${detail}${drift}`;
}

const priorityText = (priority: number | null): string => (priority === null ? '' : `, priority ${priority}`);
const modesText = (modes: readonly string[] | null): string => (modes === null ? '' : `, modes ${modes.join(', ')}`);
/** ` at layers.0 and 3 more`. */
const placeText = ([first, ...others]: readonly string[]): string =>
  ` at ${first || 'the model'}${others.length === 0 ? '' : ` and ${others.length} more`}`;

function replacedText({ className, reason, replaced }: Candidate): string {
  if (replaced === null || !['selected', 'base', 'scoped'].includes(reason)) return '';
  if (replaced.count === 0) return '; replaced nothing in this model';
  const place = replaced.paths.length === 0 ? '' : placeText(replaced.paths);
  return `; ${className} replaced ${replaced.count === 1 ? '1 instance' : `${replaced.count} instances`}${place}`;
}

function declaredHookLine({ plugin: _, hook, of, phase, modes, reason, detail }: ResolvedHook): string {
  return `[${reason}] ${hook} (of ${of}, ${phase}${modesText(modes)}): ${detail}`;
}

/** Describes what the hooks of a model did: each hook, each rename, and the patches in effect, like ones together and oldest first. */
export function explainHooks({ hooks, renames, patches }: HookRunnerRecord): string {
  return [
    ...section('hooks', hooks, hookLine),
    ...section('renamed parameters', renames, ({ hook, from, to }) => `${from} -> ${to} (${hook})`),
    ...section('patches in effect', groupPatches(patches), patchLine),
  ].join('\n');
}

/** The same change of the same hook in several places, as data; there are as many as layers. */
export interface PatchGroup extends Omit<PatchRecord, 'id' | 'path' | 'read'> {
  readonly count: number;
  readonly paths: readonly string[];
  /** How many of them a captured `forward` read; null before a capture. */
  readonly read: number | null;
}

/** Patches that differ only in their place, in the order of their first. */
export function groupPatches(patches: readonly PatchRecord[]): PatchGroup[] {
  const groups = new Map<string, PatchGroup>();
  for (const { id: _, path, read, ...facts } of patches) {
    const key = JSON.stringify({ ...facts, coveredBy: facts.coveredBy?.plugin });
    const known: PatchGroup = groups.get(key) ?? { ...facts, count: 0, paths: [], read: null };
    const readCount = read === null ? known.read : (known.read ?? 0) + Number(read);
    groups.set(key, { ...known, count: known.count + 1, paths: [...known.paths, path], read: readCount });
  }
  return [...groups.values()];
}

function section<Item>(title: string, items: readonly Item[], line: (item: Item) => string): string[] {
  return items.length === 0 ? [`${title}: none`] : [`${title}:`, ...items.map((item) => `  ${line(item)}`)];
}

function hookLine({ phase, hook, plugin, modes, reason, reload, paths, outcome, durationMs, warnings }: HookRecord): string {
  const facts = [
    `plugin "${plugin}"`,
    modes === null ? 'all modes' : `modes ${modes.join(', ')}`,
    ...(reload === null ? [] : [`reload: ${reload}`]),
    ...(paths.length === 0 || paths[0] === ''
      ? []
      : [paths.length === 1 ? `module ${paths[0]}` : `${paths.length} modules from ${paths[0]} on`]),
  ];
  const done = outcome.includes('ran')
    ? `${outcome} in ${durationMs.toFixed(1)} ms`
    : outcome.replace('planned', 'runs once the weights are loaded');
  const notes = [...(reason === null ? [] : [`; ${reason}`]), ...warnings.map((text) => `\n    warning: ${text}`)];
  return `[${phase}] ${hook} (${facts.join('; ')}): ${done}${notes.join('')}`;
}

function patchLine({ count, operation, target, detail, reason, plugin, hook, phase, paths, ...state }: PatchGroup): string {
  const { upstream, removeWhen, readBy, read, coveredBy } = state;
  const notes = [
    reason,
    removeWhen && `goes with upstream ${removeWhen}`,
    upstream,
    readBy && `read by ${readBy}`,
    read === 0 && readBy === null ? 'nobody reads it' : null,
    coveredBy && `covered by patch ${coveredBy.id} of plugin "${coveredBy.plugin}"`,
  ].flatMap((note) => (note === null ? [] : [`; ${note}`]));
  return `${count === 1 ? '' : `${count} times `}${operation} of ${target}${placeText(paths)}: ${detail} ([${phase}] ${hook}, plugin "${plugin}")${notes.join('')}`;
}
