import { GraftError } from '@graft/common';
import type { HookRunnerRecord } from '../hook-runner.ts';
import type { Phase } from '../hooks.ts';
import type { InspectableModel, ParameterFacts } from '../model.ts';
import { CheckParametersError, CheckRepeatError, CheckUndoError } from './check-errors.ts';
import { ObjectState } from './object-state.ts';
import { type BuiltModel, type CheckOutcome, type CheckSubject, hasHooks, loadSubject, loadWeights } from './subject.ts';

/**
 * The override's model has upstream's parameters, as built and after its init hooks: a checkpoint of the architecture fits.
 * @throws CheckParametersError, HookChangedParametersError, and what loading, building and the hooks throw.
 */
export async function checkInitKeepsParameters<Context, Model extends InspectableModel>(
  subject: CheckSubject<Context, Model>,
): Promise<CheckOutcome> {
  const loaded = await loadSubject(subject);
  const upstream = factsByName(await loaded.buildUpstream());
  const { model, context, runner } = loaded.build();
  const expectSame = () => {
    const changes = factChanges(upstream, factsByName(model));
    if (changes.length > 0) throw new CheckParametersError(model.constructor.name, subject, changes);
  };
  expectSame();
  await runner.run('init', model, context);
  expectSame();
  return { outcome: 'held', detail: `${upstream.size} parameters, as upstream has them` };
}

/**
 * Each phase does to a second model what it did to the first (the same hooks, patches, renames, classes and properties), and is refused when it is
 * run again on the same one.
 * @throws CheckRepeatError, and what loading, building and the hooks throw.
 */
export async function checkPhasesRepeat<Context, Model extends InspectableModel>(
  subject: CheckSubject<Context, Model>,
): Promise<CheckOutcome> {
  const { plugins, build } = await loadSubject(subject);
  const [first, second] = [build(), build()];
  const counts: string[] = [];
  for (const phase of ['init', 'postLoad'] as const) {
    if (phase === 'postLoad') {
      if (isUnloadable(subject, first.model, plugins)) return withoutPostLoad(counts);
      for (const built of [first, second]) await loadWeights(subject, built);
    }
    const [before, after] = [await outcomeOf(phase, first), await outcomeOf(phase, second)];
    const differences = [...linesMissing(before, after, 'the second'), ...linesMissing(after, before, 'the first')];
    if (differences.length > 0) throw new CheckRepeatError(phase, subject, differences);
    await expectRefused(phase, first, subject);
    counts.push(`${phase}: ${first.runner.toJSON().hooks.filter((hook) => hook.phase === phase && hook.outcome === 'ran').length} hooks`);
  }
  return { outcome: 'held', detail: counts.join(', ') };
}

/**
 * Undoing all that a phase's hooks did gives back parameters, buffers, classes, own properties and values as they were before it.
 * @throws CheckUndoError, PatchOverwrittenError, and what loading, building and the hooks throw.
 */
export async function checkUndoRestores<Context, Model extends InspectableModel>(
  subject: CheckSubject<Context, Model>,
): Promise<CheckOutcome> {
  const { plugins, build } = await loadSubject(subject);
  const built = build();
  let undone = await undoPhase('init', built, subject);
  // A model whose init hooks were undone cannot go on; a second one takes the next phase.
  const second = build();
  if (isUnloadable(subject, second.model, plugins)) return withoutPostLoad([`${undone} patches undone`]);
  await second.runner.run('init', second.model, second.context);
  await loadWeights(subject, second);
  undone += await undoPhase('postLoad', second, subject);
  return { outcome: 'held', detail: `${undone} patches undone` };
}

async function undoPhase<Context, Model extends InspectableModel>(
  phase: Phase,
  { model, context, runner }: BuiltModel<Context, Model>,
  subject: CheckSubject<Context, Model>,
): Promise<number> {
  const ignored = ignoredIn(context);
  const before = new ObjectState(model, ignored);
  const mark = runner.ledger.mark();
  await runner.run(phase, model, context);
  const patches = runner.ledger.mark() - mark;
  runner.ledger.undoTo(mark);
  const differences = before.differences(new ObjectState(model, ignored));
  if (differences.length > 0) throw new CheckUndoError(phase, subject, differences);
  return patches;
}

/** The context belongs to the caller, and models only read it. */
function ignoredIn(context: unknown): object[] {
  return typeof context === 'object' && context !== null ? [context] : [];
}

function isUnloadable<Context, Model extends InspectableModel>(
  subject: CheckSubject<Context, Model>,
  model: Model,
  plugins: Parameters<typeof hasHooks>[3],
): boolean {
  return subject.load === undefined && hasHooks('postLoad', model, subject, plugins);
}

function withoutPostLoad(details: readonly string[]): CheckOutcome {
  return { outcome: 'not checked', detail: `${details.join(', ')}; its postLoad hooks were not run: give \`load\`` };
}

async function outcomeOf<Context, Model extends InspectableModel>(
  phase: Phase,
  { model, context, runner }: BuiltModel<Context, Model>,
): Promise<string[]> {
  await runner.run(phase, model, context);
  return [...recordLines(runner.toJSON()), ...new ObjectState(model, ignoredIn(context)).outline()];
}

function recordLines({ hooks, renames, patches }: HookRunnerRecord): string[] {
  return [
    ...hooks.map(({ hook, outcome }) => `hook ${hook} ${outcome}`),
    ...renames.map(({ hook, from, to }) => `${hook} renamed ${from} to ${to}`),
    ...patches.map(({ id, operation, target, detail, hook }) => `patch ${id}: ${operation} of ${target} by ${hook}, ${detail}`),
  ];
}

function linesMissing(lines: readonly string[], from: readonly string[], whose: string): string[] {
  const there = new Set(from);
  return lines.filter((line) => !there.has(line)).map((line) => `${whose} model lacks "${line}"`);
}

async function expectRefused<Context, Model extends InspectableModel>(
  phase: Phase,
  { model, context, runner }: BuiltModel<Context, Model>,
  subject: CheckSubject<Context, Model>,
): Promise<void> {
  try {
    await runner.run(phase, model, context);
  } catch (error) {
    if (GraftError.is(error) && error.code === 'GRAFT_LIFECYCLE') return;
    throw error;
  }
  throw new CheckRepeatError(phase, subject, ['it was run twice on one model, and not refused']);
}

function factsByName(model: InspectableModel): Map<string, string> {
  const text = ({ dtype, shape }: ParameterFacts) => `${dtype} [${shape.join(', ')}]`;
  return new Map([...model.namedParameters()].map(([name, facts]) => [name, text(facts)]));
}

function factChanges(upstream: ReadonlyMap<string, string>, override: ReadonlyMap<string, string>): string[] {
  const missing = [...upstream.keys()].filter((name) => !override.has(name)).map((name) => `"${name}" is missing`);
  const added = [...override.keys()].filter((name) => !upstream.has(name)).map((name) => `"${name}" is new`);
  const changed = [...upstream].flatMap(([name, facts]) => {
    const now = override.get(name);
    return now === undefined || now === facts ? [] : [`"${name}" is ${now}, and ${facts} upstream`];
  });
  return [...missing, ...added, ...changed];
}
