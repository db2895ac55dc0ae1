import type { HookRecord, HookRunnerRecord } from './hook-runner.ts';
import type { PatchRecord } from './patch-ledger.ts';
import type { CandidateRecord, ChainRecord, ResolutionRecord } from './resolution-record.ts';

/** A resolution in words, from its record, so that it can be rendered on either side of a worker boundary. */
export function explain(record: ResolutionRecord): string {
  const lines = [headline(record)];
  for (const { architecture, reason, detail } of record.passedOver) lines.push(`  passed over ${architecture} (${reason}): ${detail}`);
  lines.push('  class chain, upstream first:');
  record.chain.forEach((link, index) => {
    lines.push(`    ${index + 1}. ${chainLine(link)}`);
  });
  lines.push('  candidates:');
  for (const candidate of record.candidates) lines.push(`    ${candidateLine(candidate)}`);
  return lines.join('\n');
}

function headline({ architecture, platform, mode, chain }: ResolutionRecord): string {
  const top = chain.at(-1);
  const served =
    top === undefined
      ? 'nothing'
      : `${top.className ?? `the ${top.kind === 'upstream' ? 'upstream class' : top.kind}`} of plugin "${top.plugin}"`;
  const where = platform === null ? 'upstream' : `platform "${platform}"${mode === null ? '' : `, mode "${mode}"`}`;
  return `${architecture} (${where}) is served by ${served}`;
}

function chainLine({ className, kind, plugin, priority, file }: ChainRecord): string {
  const rank = priority === null ? '' : `, priority ${priority}`;
  return `${className ?? '(not imported)'}: ${kind} of plugin "${plugin}"${rank}${file === null ? '' : ` (${file})`}`;
}

function candidateLine({ plugin, kind, platform, priority, reason, detail, contract, contractNotes }: CandidateRecord): string {
  const facts = [kind, platform === null ? null : `platform "${platform}"`, priority === null ? null : `priority ${priority}`].filter(
    (fact) => fact !== null,
  );
  const notes = contractNotes.map((note) => `\n      ${note}`).join('');
  const drift = contract === 'none' ? '' : `; contract ${contract}${notes === '' ? '' : ':'}${notes}`;
  return `[${reason}] ${plugin} (${facts.join(', ')}): ${detail}${drift}`;
}

/** What the hooks of a model did, in words: each hook, each rename, and the patches in effect, like ones together and oldest first. */
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
    ...(paths.length === 0 || paths[0] === '' ? [] : [placesText(paths)]),
  ];
  const done = outcome.includes('ran')
    ? `${outcome} in ${durationMs.toFixed(1)} ms`
    : outcome.replace('planned', 'runs once the weights are loaded');
  const notes = [...(reason === null ? [] : [`; ${reason}`]), ...warnings.map((text) => `\n    warning: ${text}`)];
  return `[${phase}] ${hook} (${facts.join('; ')}): ${done}${notes.join('')}`;
}

function placesText([first, ...others]: readonly string[]): string {
  return others.length === 0 ? `module ${first}` : `${others.length + 1} modules from ${first} on`;
}

function patchLine({ count, operation, target, detail, reason, plugin, hook, phase, paths, ...state }: PatchGroup): string {
  const { upstream, removeWhen, readBy, read, coveredBy } = state;
  const [first, ...others] = paths;
  const place = ` at ${first || 'the model'}${others.length === 0 ? '' : ` and ${others.length} more`}`;
  const notes = [
    reason,
    removeWhen && `goes with upstream ${removeWhen}`,
    upstream,
    readBy && `read by ${readBy}`,
    read === 0 && readBy === null ? 'nobody reads it' : null,
    coveredBy && `covered by patch ${coveredBy.id} of plugin "${coveredBy.plugin}"`,
  ].flatMap((note) => (note === null ? [] : [`; ${note}`]));
  return `${count === 1 ? '' : `${count} times `}${operation} of ${target}${place}: ${detail} ([${phase}] ${hook}, plugin "${plugin}")${notes.join('')}`;
}
