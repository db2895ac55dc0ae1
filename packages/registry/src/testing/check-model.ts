import { GraftError } from '@graft/common';
import type { Phase } from '../hooks.ts';
import { changeText, namedParameters, parameterChanges } from '../parameters.ts';
import { CheckFailedError, targetText } from './check-errors.ts';
import { type BuiltModel, type CheckOutcome, type Subject, snapshotOf } from './subject.ts';

const phases = ['init', 'postLoad'] as const;

/**
 * Upstream's classes, their manifest and a built model have everything that the plugin's overrides rely on (`reliesOn`).
 * @throws ContractBrokenError that names each breach, and the errors of building.
 */
export async function checkContractHolds({ plugin, target, classes, options }: Subject): Promise<CheckOutcome> {
  await classes.construct(options.context({ ...target, build: classes.build }));
  const { candidates, layers } = classes.resolution;
  const stated = [...candidates, ...layers.flatMap((layer) => layer.candidates)].filter(
    (each) => each.plugin === plugin.name && each.platform === target.platform && each.contract !== 'none',
  );
  if (stated.length === 0) return { outcome: 'not checked', detail: 'no override here states a `reliesOn`' };
  if (stated.every(({ contract }) => contract === 'holds')) return { outcome: 'held', detail: 'all that `reliesOn` names is there' };
  const notes = stated.flatMap(({ contractNotes }) => contractNotes);
  return { outcome: 'not checked', detail: `no breach was found, but not everything could be checked: ${notes.join('; ')}` };
}

/**
 * The model has upstream's parameters, as built and after its init hooks: a checkpoint of the architecture fits.
 * @throws CheckFailedError, HookChangedParametersError, and the errors of building and of the hooks.
 */
export async function checkInitKeepsParameters({ target, ...subject }: Subject): Promise<CheckOutcome> {
  const upstream = namedParameters((await subject.buildUpstream()).namedParameters());
  const { model, context, runner } = subject.build();
  const expectSame = () => {
    const differences = parameterChanges(upstream, namedParameters(model.namedParameters()));
    const changes = differences.filter(({ kind }) => kind !== 'replaced').map(changeText); // two models share no Parameter
    if (changes.length > 0) throw new CheckFailedError('GRAFT_CHECK_PARAMETERS', targetText(target), changes);
  };
  expectSame();
  await runner.run('init', model, context);
  expectSame();
  return { outcome: 'held', detail: `${upstream.size} parameters, as upstream has them` };
}

/**
 * Each phase does the same to a second model (hooks, patches, renames, classes and properties), and cannot run twice on one model.
 * @throws CheckFailedError, and the errors of building and of the hooks.
 */
export async function checkPhasesRepeat(subject: Subject): Promise<CheckOutcome> {
  const [first, second] = [subject.build(), subject.build()];
  const counts: string[] = [];
  for (const phase of phases) {
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
 * Undoing a phase's patches gives back parameters, buffers, classes, own properties and values as they were before it.
 * @throws CheckFailedError, PatchOverwrittenError, and the errors of building and of the hooks.
 */
export async function checkUndoRestores(subject: Subject): Promise<CheckOutcome> {
  let undone = 0;
  for (const phase of phases) {
    const built = subject.build(); // another one for each phase: a model whose init hooks were undone cannot go on
    const { model, context, runner } = built;
    if (phase === 'postLoad') {
      await runner.run('init', model, context);
      if (!(await subject.load(built))) return withoutPostLoad([`${undone} patches undone`]);
    }
    const before = snapshotOf(built);
    const count = runner.ledger.toJSON().length;
    await runner.run(phase, model, context);
    undone += runner.ledger.toJSON().length - count;
    runner.ledger.undoTo(count);
    const differences = before.differences(snapshotOf(built));
    if (differences.length > 0) throw new CheckFailedError('GRAFT_CHECK_UNDO', targetText(subject.target), differences);
  }
  return { outcome: 'held', detail: `${undone} patches undone` };
}

function withoutPostLoad(details: readonly string[]): CheckOutcome {
  return { outcome: 'not checked', detail: `${details.join(', ')}; its postLoad hooks were not run: give \`load\`` };
}

async function outcomeOf(phase: Phase, built: BuiltModel): Promise<string[]> {
  await built.runner.run(phase, built.model, built.context);
  const { hooks, renames, patches } = built.runner.toJSON();
  return [
    ...hooks.map(({ hook, outcome, paths }) => `hook ${hook} ${outcome} on ${paths.length} modules`),
    ...renames.map(({ hook, from, to }) => `${hook} renamed ${from} to ${to}`),
    ...patches.map(({ id, operation, target, detail, hook }) => `patch ${id}: ${operation} of ${target} by ${hook}, ${detail}`),
    ...snapshotOf(built).outline(),
  ];
}

function linesMissing(lines: readonly string[], from: readonly string[], whose: string): string[] {
  return lines.filter((line) => !from.includes(line)).map((line) => `${whose} model lacks "${line}"`);
}

async function isRefused(phase: Phase, { model, context, runner }: BuiltModel): Promise<boolean> {
  try {
    await runner.run(phase, model, context);
    return false;
  } catch (error) {
    if (GraftError.is(error) && error.code === 'GRAFT_LIFECYCLE') return true;
    throw error;
  }
}
