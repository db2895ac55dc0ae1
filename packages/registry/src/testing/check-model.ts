import { GraftError } from '@graft/common';
import type { HookRunnerRecord } from '../hook-runner.ts';
import type { Phase } from '../hooks.ts';
import { changeText, namedParameters, parameterChanges } from '../parameters.ts';
import { Snapshot } from '../snapshot.ts';
import { CheckFailedError, targetText } from './check-errors.ts';
import type { BuiltModel, CheckOutcome, Subject } from './subject.ts';

/**
 * Upstream's classes, their manifest and a built model have all that the plugin's override relies on (`reliesOn`).
 * @throws ContractBrokenError that names each breach, and what building throws.
 */
export async function checkContractHolds({ plugin, target, classes, options }: Subject): Promise<CheckOutcome> {
  await classes.construct(options.context({ ...target, build: classes.build }));
  const { candidates, layers } = classes.resolution;
  const all = [...candidates, ...layers.flatMap((layer) => layer.candidates)];
  const own = all.filter(({ plugin: by, platform }) => by === plugin.name && platform === target.platform);
  const stated = own.filter(({ contract }) => contract !== 'none');
  if (stated.length === 0) return { outcome: 'not checked', detail: 'no override here states a `reliesOn`' };
  const notes = stated.flatMap(({ contractNotes }) => contractNotes);
  return stated.every(({ contract }) => contract === 'holds')
    ? { outcome: 'held', detail: 'all that `reliesOn` names is there' }
    : { outcome: 'not checked', detail: `no breach was found, but not all could be looked at: ${notes.join('; ')}` };
}

/**
 * The override's model has upstream's parameters, as built and after its init hooks: a checkpoint of the architecture fits.
 * @throws CheckFailedError, HookChangedParametersError, and what building and the hooks throw.
 */
export async function checkInitKeepsParameters({ target, ...subject }: Subject): Promise<CheckOutcome> {
  const upstream = namedParameters((await subject.buildUpstream()).namedParameters());
  const { model, context, runner } = subject.build();
  const expectSame = () => {
    const changes = parameterChanges(upstream, namedParameters(model.namedParameters())).map(changeText);
    if (changes.length > 0) throw new CheckFailedError('GRAFT_CHECK_PARAMETERS', targetText(target), changes);
  };
  expectSame();
  await runner.run('init', model, context);
  expectSame();
  return { outcome: 'held', detail: `${upstream.size} parameters, as upstream has them` };
}

/**
 * Each phase does to a second model what it did to the first (the same hooks, patches, renames, classes and properties), and is refused when it is
 * run again on the same one.
 * @throws CheckFailedError, and what building and the hooks throw.
 */
export async function checkPhasesRepeat(subject: Subject): Promise<CheckOutcome> {
  const [first, second] = [subject.build(), subject.build()];
  const counts: string[] = [];
  for (const phase of ['init', 'postLoad'] as const) {
    if (phase === 'postLoad') for (const built of [first, second]) if (!(await subject.load(built))) return withoutPostLoad(counts);
    const [before, after] = [await outcomeOf(phase, first), await outcomeOf(phase, second)];
    const differences = [...linesMissing(before, after, 'the second'), ...linesMissing(after, before, 'the first')];
    if (differences.length === 0 && !(await isRefused(phase, first))) differences.push(`${phase} ran twice on one model`);
    if (differences.length > 0) throw new CheckFailedError('GRAFT_CHECK_REPEAT', targetText(subject.target), differences);
    counts.push(`${phase}: ${first.runner.toJSON().hooks.filter((hook) => hook.phase === phase && hook.outcome === 'ran').length} hooks`);
  }
  return { outcome: 'held', detail: counts.join(', ') };
}

/**
 * Undoing all that a phase's hooks did gives back parameters, buffers, classes, own properties and values as they were before it.
 * @throws CheckFailedError, PatchOverwrittenError, and what building and the hooks throw.
 */
export async function checkUndoRestores(subject: Subject): Promise<CheckOutcome> {
  let undone = await undoPhase('init', subject.build(), subject);
  // A model whose init hooks were undone cannot go on; a second one takes the next phase.
  const second = subject.build();
  await second.runner.run('init', second.model, second.context);
  if (!(await subject.load(second))) return withoutPostLoad([`${undone} patches undone`]);
  undone += await undoPhase('postLoad', second, subject);
  return { outcome: 'held', detail: `${undone} patches undone` };
}

async function undoPhase(phase: Phase, built: BuiltModel, { target }: Subject): Promise<number> {
  const { model, context, runner } = built;
  const before = snapshotOf(built);
  const count = runner.ledger.toJSON().length;
  await runner.run(phase, model, context);
  const patches = runner.ledger.toJSON().length - count;
  runner.ledger.undoTo(count);
  const differences = before.differences(snapshotOf(built));
  if (differences.length > 0) throw new CheckFailedError('GRAFT_CHECK_UNDO', targetText(target), differences);
  return patches;
}

/** The context belongs to the caller, and models only read it. */
export function snapshotOf({ model, context }: BuiltModel): Snapshot {
  return Snapshot.ofModel(model, { deep: true, ignored: typeof context === 'object' && context !== null ? [context] : [] });
}

function withoutPostLoad(details: readonly string[]): CheckOutcome {
  return { outcome: 'not checked', detail: `${details.join(', ')}; its postLoad hooks were not run: give \`load\`` };
}

async function outcomeOf(phase: Phase, built: BuiltModel): Promise<string[]> {
  await built.runner.run(phase, built.model, built.context);
  return [...recordLines(built.runner.toJSON()), ...snapshotOf(built).outline()];
}

function recordLines({ hooks, renames, patches }: HookRunnerRecord): string[] {
  return [
    ...hooks.map(({ hook, outcome, paths }) => `hook ${hook} ${outcome} on ${paths.length} modules`),
    ...renames.map(({ hook, from, to }) => `${hook} renamed ${from} to ${to}`),
    ...patches.map(({ id, operation, target, detail, hook }) => `patch ${id}: ${operation} of ${target} by ${hook}, ${detail}`),
  ];
}

function linesMissing(lines: readonly string[], from: readonly string[], whose: string): string[] {
  const there = new Set(from);
  return lines.filter((line) => !there.has(line)).map((line) => `${whose} model lacks "${line}"`);
}

async function isRefused(phase: Phase, { model, context, runner }: BuiltModel) {
  try {
    await runner.run(phase, model, context);
  } catch (error) {
    if (GraftError.is(error) && error.code === 'GRAFT_LIFECYCLE') return true;
    throw error;
  }
  return false;
}
