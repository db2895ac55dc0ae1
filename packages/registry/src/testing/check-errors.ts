import { GraftError } from '@graft/common';
import type { CheckRecord } from './check-plugin.ts';
import type { CheckTarget } from './subject.ts';

const mostNamed = 10;

/** A list that stays readable: what is beyond the first few is counted. */
function listed(items: readonly string[]): string {
  const more = items.length - mostNamed;
  return items.slice(0, mostNamed).join('; ') + (more > 0 ? `; and ${more} more` : '');
}

function targetText({ architecture, platform, mode }: CheckTarget): string {
  return `${architecture} on platform "${platform}"${mode === undefined ? '' : `, mode "${mode}"`}`;
}

/** A check was asked about something that the plugin does not touch, and would hold whatever the plugin does. */
export class CheckTargetError extends GraftError {
  constructor(plugin: string, target: CheckTarget, problem: string, fix: string) {
    super({
      code: 'GRAFT_CHECK_TARGET',
      what: `Plugin "${plugin}" cannot be checked for ${targetText(target)}: ${problem}.`,
      where: `plugin "${plugin}"`,
      fix,
    });
  }
}

/** The override's model, as built, has other parameters than upstream's. */
export class CheckParametersError extends GraftError {
  constructor(className: string, target: CheckTarget, changes: readonly string[]) {
    super({
      code: 'GRAFT_CHECK_PARAMETERS',
      what: `${className} has other parameters than upstream's class: ${listed(changes)}.`,
      where: `class ${className}, ${targetText(target)}`,
      fix: 'build the same parameters under the same names, so that a checkpoint fits; rename in a postLoad hook.',
    });
  }
}

/** A phase did something else to a second model of the same class. */
export class CheckRepeatError extends GraftError {
  constructor(phase: string, target: CheckTarget, differences: readonly string[]) {
    super({
      code: 'GRAFT_CHECK_REPEAT',
      what: `Phase ${phase} did not do the same to a second model: ${listed(differences)}.`,
      where: targetText(target),
      fix: 'keep no state between models: a hook reads the model and its context only.',
    });
  }
}

/** Undoing every patch of a phase did not give back what was there before. */
export class CheckUndoError extends GraftError {
  constructor(phase: string, target: CheckTarget, differences: readonly string[]) {
    super({
      code: 'GRAFT_CHECK_UNDO',
      what: `After phase ${phase} was undone, the model is not as it was: ${listed(differences)}.`,
      where: targetText(target),
      fix: 'make every change of the model through the `patches` that the hook is given.',
    });
  }
}

/** Two models, or two registries, in one process hold the same thing. */
export class CheckSharedError extends GraftError {
  constructor(plugin: string, target: CheckTarget, shared: readonly string[]) {
    super({
      code: 'GRAFT_CHECK_SHARED',
      what: `Two copies of the model in one process share ${listed(shared)}.`,
      where: `plugin "${plugin}", ${targetText(target)}`,
      fix: 'make it in the constructor, in the hook, or in the function given to toDynamicValue; not at the top of a module.',
    });
  }
}

/** After a reload, outputs are not those of a fresh load of the same checkpoint. */
export class CheckReloadError extends GraftError {
  constructor(checkpoint: string, problem: string, fix: string) {
    super({ code: 'GRAFT_CHECK_RELOAD', what: problem, where: `checkpoint ${checkpoint}`, fix });
  }
}

/** At least one property does not hold. `records` has them all. */
export class PluginCheckFailedError extends GraftError {
  readonly records: readonly CheckRecord[];

  constructor(plugin: string, records: readonly CheckRecord[], table: string) {
    const failed = records.filter(({ outcome }) => outcome === 'failed');
    super({
      code: 'GRAFT_CHECK_FAILED',
      what: `${failed.length} of ${records.length} checks of plugin "${plugin}" failed:\n${table}`,
      where: `plugin "${plugin}"`,
      fix: 'mend what the rows marked "failed" name; each row gives the code of its error.',
      cause: failed[0]?.error,
    });
    this.records = records;
  }
}
