import { GraftError } from '@graft/common';
import { quotedList } from './names.ts';

/** A call that the model's state does not allow. */
export class LifecycleError extends GraftError {
  constructor({ state, call, allowed, reason }: { state: string; call: string; allowed: readonly string[]; reason?: string | undefined }) {
    super({
      code: 'GRAFT_LIFECYCLE',
      what: `${call} was called on a model that is ${state}${reason === undefined ? '' : ` (${reason})`}; it needs one that is ${quotedList(allowed)}.`,
      where: call,
      fix: state === 'failed' ? 'build the model again.' : 'follow constructed -> initialized -> loaded -> ready.',
    });
  }
}

/** A hook decorator on something that cannot be a hook. */
export class HookTargetError extends GraftError {
  constructor(name: string, problem: string) {
    const fix = 'put the decorator on a public method of a model or layer class.';
    super({ code: 'GRAFT_HOOK_TARGET', what: `${name} cannot be a hook: ${problem}.`, where: name, fix });
  }
}

interface FailedPhase {
  phase: string;
  hook: string;
  /** Whether the model is as it was. */
  restored: boolean;
}

const outcomeText = (restored: boolean): string =>
  restored ? 'The model is as it was before the phase.' : 'The model could not be restored: build it again.';

/** A hook changed what a checkpoint depends on. */
export class HookChangedParametersError extends GraftError {
  constructor({ phase, hook, changes, restored }: FailedPhase & { changes: readonly string[] }) {
    const promise =
      phase === 'init'
        ? 'an init hook may not add, drop, rename, retype or reshape one, since the checkpoint could not be loaded; rename in postLoad.'
        : 'a postLoad hook may only rename.';
    const what = `A hook of phase ${phase} changed the model's parameters: ${changes.join('; ')}.`;
    super({ code: 'GRAFT_HOOK_CHANGED_PARAMETERS', what, where: hook, fix: `${promise} ${outcomeText(restored)}` });
  }
}

/** A hook threw. */
export class HookFailedError extends GraftError {
  constructor({ phase, hook, message, restored, cause }: FailedPhase & { message: string; cause: unknown }) {
    const hint = phase === 'init' ? '; it runs before weights are read, and what needs their values is a postLoad hook' : '';
    const fix = `correct the hook${hint}. ${outcomeText(restored)}`;
    super({ code: 'GRAFT_HOOK_FAILED', what: `A hook of phase ${phase} threw: ${message}`, where: hook, fix, cause });
  }
}

/** A patch that cannot be made. */
export class PatchRefusedError extends GraftError {
  constructor({ operation, target, problem, fix }: { operation: string; target: string; problem: string; fix: string }) {
    super({ code: 'GRAFT_PATCH_REFUSED', what: `${operation} was refused: ${problem}.`, where: target, fix });
  }
}

/** Patches are undone last in first out. */
export class PatchOrderError extends GraftError {
  constructor(patch: string, later: readonly string[]) {
    super({
      code: 'GRAFT_PATCH_ORDER',
      what: `${patch} cannot be undone before ${later.join(', ')}, made after it.`,
      where: patch,
      fix: 'undo the later patches first.',
    });
  }
}

/** A patched property or class was changed again without the ledger. */
export class PatchOverwrittenError extends GraftError {
  constructor(patch: string) {
    super({
      code: 'GRAFT_PATCH_OVERWRITTEN',
      what: `${patch} cannot be undone: what it changed was changed again outside the ledger.`,
      where: patch,
      fix: 'make every change of a model in place through the ledger.',
    });
  }
}

/** A reload of the weights left another model than the first load. */
export class ReloadChangedModelError extends GraftError {
  constructor(problem: string, where = 'postLoad hooks') {
    super({
      code: 'GRAFT_RELOAD_CHANGED_MODEL',
      what: `When a reload ran hooks again, ${problem}.`,
      where,
      fix: "a hook that patches or renames says reload: 'keep' or 'undo-redo'; 'rerun' is for one that only computes from the weights.",
    });
  }
}
