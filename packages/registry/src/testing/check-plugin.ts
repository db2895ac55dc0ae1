import { GraftError, messageOf, nearestNames, quotedList } from '@graft/common';
import type { InspectableModel } from '../model.ts';
import type { Plugin } from '../plugin.ts';
import { checkCopiesShareNothing } from './check-copies.ts';
import { CheckFailedError, CheckTargetError, PluginCheckFailedError, targetText } from './check-errors.ts';
import { checkContractHolds, checkInitKeepsParameters, checkPhasesRepeat, checkUndoRestores } from './check-model.ts';
import { checkReloadEqualsFreshLoad } from './check-reload.ts';
import type { CheckOptions, CheckOutcome, CheckPluginOptions, CheckTarget, Subject } from './subject.ts';
import { loadSubject, loadWith, touchedBy } from './subject.ts';

export interface CheckRecord extends CheckTarget {
  readonly property: string;
  readonly outcome: CheckOutcome['outcome'] | 'failed';
  /** The figures, or the reason for none; of a failure, its code and message. */
  readonly detail: string;
  readonly error?: unknown;
}

/** The properties of each target. `toString` gives a table. */
export interface PluginReport {
  readonly plugin: string;
  readonly records: readonly CheckRecord[];
  toString(): string;
}

/**
 * Runs every check of this kit, for every model, platform and mode that the plugin overrides or hooks into, as a whole or in a layer. A failure
 * does not stop the others.
 * @throws PluginCheckFailedError with the table and all records when a check fails; CheckTargetError where no part of the plugin serves or runs, as
 * with a misspelt platform or mode.
 */
export async function checkPlugin<Context, Model extends InspectableModel, Running = unknown>(
  plugin: Plugin,
  typed: CheckPluginOptions<Context, Model, Running>,
): Promise<PluginReport> {
  const options = typed as unknown as CheckOptions; // the caller's contexts and models only go back to the caller
  const records: CheckRecord[] = [];
  for (const target of await targetsOf(plugin, options)) {
    const open = () => loadSubject(plugin, options, target);
    const check = (property: string, body: (subject: Subject) => Promise<CheckOutcome>) =>
      run(property, target, async () => {
        const subject = await open();
        const result = body(subject);
        await result.catch(() => undefined);
        const changes = subject.classChanges(); // after a failure too: they may explain it
        if (changes.length > 0) throw new CheckFailedError('GRAFT_CHECK_CLASSES', targetText(target), changes);
        return result;
      });
    records.push(
      await check('contract holds', checkContractHolds),
      await check('phases repeat', checkPhasesRepeat), // first of those that run hooks: a hook may do something the first time only
      await check('init keeps the parameters', checkInitKeepsParameters),
      await check('undo restores', checkUndoRestores),
      await check('copies share nothing', async (subject) => checkCopiesShareNothing(subject, await open())),
      await run('reload equals a fresh load', target, async () => {
        const reload = options.reload?.(target) ?? null;
        return reload === null ? { outcome: 'not checked', detail: 'give `reload`' } : checkReloadEqualsFreshLoad(reload);
      }),
    );
  }
  const table = tableOf(records);
  if (records.some(({ outcome }) => outcome === 'failed')) throw new PluginCheckFailedError(plugin.name, records, table);
  return { plugin: plugin.name, records, toString: () => table };
}

const noBuild = 'no part of it serves, and the `context` callback does not use the `build` that it is given';
const passBuild = 'pass it on: `context: ({ build }) => ({ ...yours, build })`; parts are overridden through it.';

/** The targets that the plugin touches. A hook, or an override of a model, that touches no target is an error. */
async function targetsOf(plugin: Plugin, options: CheckOptions): Promise<CheckTarget[]> {
  const targets: CheckTarget[] = [];
  const idle = new Map<string, string>();
  for (const { target, isNamed } of await candidatesOf(plugin, options)) {
    const { serves, hooks, takesBuild } = await loadSubject(plugin, options, target).then(touchedBy, () => ({
      serves: true,
      hooks: [],
      takesBuild: true,
    })); // the checks report it
    for (const { hook, outcome } of hooks) if (idle.get(hook) !== 'planned') idle.set(hook, outcome);
    if (serves || hooks.some(({ outcome }) => outcome === 'planned')) targets.push(target);
    else if (!isNamed && !takesBuild && plugin.overrides?.length) throw new CheckTargetError(plugin.name, noBuild, passBuild);
    else if (isNamed && hooks.length === 0) {
      const problem = `no part of it serves or runs for ${targetText(target)}`;
      throw new CheckTargetError(plugin.name, problem, 'leave out of `needs` what outranks it, or correct the names in it.');
    }
  }
  const neverRun = [...idle].filter(([, outcome]) => outcome !== 'planned').map(([hook, outcome]) => `${hook} (${outcome})`);
  if (targets.length > 0 && (neverRun.length === 0 || options.modes !== undefined)) return targets;
  const problem = neverRun.length > 0 ? `these hooks run nowhere: ${neverRun.join(', ')}` : 'it changes no model';
  throw new CheckTargetError(plugin.name, problem, 'correct the modes and names in it, or check a plugin that changes a model.');
}

/** @throws CheckTargetError for a platform or mode that no plugin here brings. */
async function candidatesOf(plugin: Plugin, { needs = [], modes, architectures }: CheckOptions) {
  const platforms = [...needs, plugin].flatMap((each) => each.platforms ?? []);
  const known = platforms.map((platform) => platform.name);
  const registered = (await loadWith(plugin, needs)).registry.list().map(({ architecture }) => architecture);
  const found = new Map<string, { target: CheckTarget; isNamed: boolean }>();
  for (const { of, platform: name } of [...(plugin.overrides ?? []), ...(plugin.hooks ?? [])]) {
    const platform = platforms.find((each) => each.name === name);
    if (platform === undefined) throw unknownName(plugin, 'platform', name, known);
    const unknownMode = modes?.find((mode) => !platform.modes.includes(mode));
    if (unknownMode !== undefined) throw unknownName(plugin, 'mode', unknownMode, platform.modes);
    const model = registered.find((architecture) => of.slice(of.lastIndexOf('/') + 1) === architecture);
    for (const architecture of model === undefined ? (architectures ?? registered) : [model]) {
      for (const mode of modes ?? platform.modes) {
        const target = { architecture, platform: name, mode };
        const isNamed = model !== undefined || found.get(targetText(target))?.isNamed === true;
        found.set(targetText(target), { target, isNamed });
      }
    }
  }
  return [...found.values()];
}

function unknownName(plugin: Plugin, kind: 'platform' | 'mode', name: string, known: readonly string[]): CheckTargetError {
  const fix = `use ${quotedList(nearestNames(name, known))}${kind === 'platform' ? ', or add the plugin that brings it to `needs`' : ''}.`;
  return new CheckTargetError(plugin.name, `no plugin here brings the ${kind} "${name}"`, fix);
}

async function run(property: string, target: CheckTarget, check: () => Promise<CheckOutcome>): Promise<CheckRecord> {
  try {
    return { property, ...target, ...(await check()) };
  } catch (error) {
    const where = GraftError.is(error) && error.where !== undefined ? ` (${error.where})` : '';
    const detail = GraftError.is(error) ? `${error.code}: ${error.what}${where}` : messageOf(error);
    return { property, ...target, outcome: 'failed', detail, error };
  }
}

function tableOf(records: readonly CheckRecord[]): string {
  const rows = records.map((record) => [record.outcome, record.property, targetText(record), record.detail.replace(/\s+/g, ' ')]);
  const widths = [0, 1, 2].map((column) => Math.max(...rows.map((row) => row[column]!.length)));
  return rows.map((row) => row.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join('  ')).join('\n');
}
