import { GraftError, messageOf } from '@graft/common';
import type { EngineContainer, ModelContainer } from '../containers.ts';
import type { InspectableModel } from '../model.ts';
import type { Plugin } from '../plugin.ts';
import { checkContractHolds } from './check-contract.ts';
import { checkCopiesShareNothing } from './check-copies.ts';
import { CheckTargetError, PluginCheckFailedError } from './check-errors.ts';
import { checkInitKeepsParameters, checkPhasesRepeat, checkUndoRestores } from './check-model.ts';
import { checkReloadEqualsFreshLoad, type ReloadSubject } from './check-reload.ts';
import { type CheckOutcome, type CheckTarget, targetsOf } from './subject.ts';

/** One property of one model, as data. */
export interface CheckRecord {
  readonly property: string;
  readonly architecture: string;
  readonly platform: string;
  readonly mode: string | null;
  readonly outcome: CheckOutcome['outcome'] | 'failed';
  /** What was seen, or why not; of a failure, its code and what it says. */
  readonly detail: string;
  /** What was thrown. */
  readonly error?: unknown;
}

export interface CheckPluginOptions<Context = never, Model extends InspectableModel = InspectableModel, Running = unknown> {
  /** The plugins that it comes after, in code: upstream models first. */
  needs?: readonly Plugin[];
  /** A context for one model. Small is enough, and quick: nothing here depends on sizes. */
  context(target: CheckTarget): Context;
  /** The modes to check; those of the platform, where the plugin or one that it needs brings it. */
  modes?: readonly string[];
  /** Loads weights into a model whose init hooks have run. Without it, post-load hooks are not checked. */
  load?(model: Model, context: Context): void | Promise<void>;
  /** Binds what the application binds for a model, so that the plugin's services can be built. */
  bind?(containers: { engine: EngineContainer; model: ModelContainer }, context: Context): void | Promise<void>;
  /** How to try a reload of one target; where there is none, "reload equals a fresh load" is not checked. */
  reload?(target: CheckTarget): ReloadSubject<Running> | null;
}

/** The properties of each target, and the table of them. */
export interface PluginReport {
  readonly plugin: string;
  readonly records: readonly CheckRecord[];
  toString(): string;
}

/**
 * Every check of this kit, for every architecture, platform and mode that the plugin overrides or hooks into. All of them run, whatever fails.
 * @throws PluginCheckFailedError with the table and all records when one fails; CheckTargetError for a plugin that brings nothing to check.
 */
export async function checkPlugin<Context, Model extends InspectableModel, Running = unknown>(
  plugin: Plugin,
  options: CheckPluginOptions<Context, Model, Running>,
): Promise<PluginReport> {
  const records: CheckRecord[] = [];
  for (const target of targets(plugin, options)) {
    for (const [property, check] of properties(plugin, options, target)) records.push(await run(property, target, check));
  }
  const table = tableOf(records);
  if (records.some(({ outcome }) => outcome === 'failed')) throw new PluginCheckFailedError(plugin.name, records, table);
  return { plugin: plugin.name, records, toString: () => table };
}

type Check = () => Promise<CheckOutcome>;

function properties<Context, Model extends InspectableModel, Running>(
  plugin: Plugin,
  options: CheckPluginOptions<Context, Model, Running>,
  target: CheckTarget,
): [string, Check][] {
  const { reload, modes: _modes, ...models } = options;
  const subject = { ...models, ...target, plugin };
  return [
    ['contract holds', () => checkContractHolds(subject)],
    ['init keeps the parameters', () => checkInitKeepsParameters(subject)],
    ['phases repeat', () => checkPhasesRepeat(subject)],
    ['undo restores', () => checkUndoRestores(subject)],
    ['copies share nothing', () => checkCopiesShareNothing(subject)],
    ['reload equals a fresh load', () => checkReload(reload?.(target) ?? null)],
  ];
}

async function checkReload<Running>(subject: ReloadSubject<Running> | null): Promise<CheckOutcome> {
  return subject === null ? { outcome: 'not checked', detail: 'give `reload`' } : checkReloadEqualsFreshLoad(subject);
}

function targets<Context, Model extends InspectableModel, Running>(
  plugin: Plugin,
  { needs = [], modes }: CheckPluginOptions<Context, Model, Running>,
): CheckTarget[] {
  const platforms = [...needs, plugin].flatMap((each) => each.platforms ?? []);
  const found = targetsOf(plugin).flatMap(({ architecture, platform }): CheckTarget[] => {
    const named = modes ?? platforms.find(({ name }) => name === platform)?.modes;
    return named === undefined ? [{ architecture, platform }] : named.map((mode) => ({ architecture, platform, mode }));
  });
  if (found.length === 0) {
    const anywhere = { architecture: 'any architecture', platform: 'any' };
    throw new CheckTargetError(plugin.name, anywhere, 'it has no override and no hook', 'check a plugin that changes a model.');
  }
  return found;
}

async function run(property: string, { architecture, platform, mode }: CheckTarget, check: Check): Promise<CheckRecord> {
  const about = { property, architecture, platform, mode: mode ?? null };
  try {
    return { ...about, ...(await check()) };
  } catch (error) {
    const where = GraftError.is(error) && error.where !== undefined ? ` (${error.where})` : '';
    const detail = GraftError.is(error) ? `${error.code}: ${error.what}${where}` : messageOf(error);
    return { ...about, outcome: 'failed', detail, error };
  }
}

/** One line a record, in columns. */
function tableOf(records: readonly CheckRecord[]): string {
  const rows = records.map(({ outcome, property, architecture, platform, mode, detail }) => [
    outcome,
    property,
    mode === null ? `${architecture} on ${platform}` : `${architecture} on ${platform} (${mode})`,
    detail.replace(/\s+/g, ' '),
  ]);
  const widths = [0, 1, 2].map((column) => Math.max(...rows.map((row) => row[column]!.length)));
  return rows.map((row) => row.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join('  ')).join('\n');
}
