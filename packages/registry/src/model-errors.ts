import { GraftError, graftError, quotedList } from '@graft/common';

export class LifecycleError extends graftError(
  'GRAFT_LIFECYCLE',
  (state: string, call: string, allowed: readonly string[], reason?: string) => ({
    what: `${call} was called on a model that is ${state}${reason === undefined ? '' : ` (${reason})`}; it needs one that is ${quotedList(allowed)}.`,
    where: call,
    fix: state === 'failed' ? 'build the model again.' : 'follow constructed -> initialized -> loaded -> ready.',
  }),
) {}

export class HookTargetError extends graftError('GRAFT_HOOK_TARGET', (name: string, problem: string, fix?: string) => ({
  what: `${name} cannot be a hook: ${problem}.`,
  where: name,
  fix: fix ?? 'put the decorator on a public method of a model or layer class.',
})) {}

interface FailedPhase {
  phase: string;
  hook: string;
  /** Whether the model is as it was. */
  restored: boolean;
}

const outcomeText = (restored: boolean): string =>
  restored ? 'The model is as it was before the phase.' : 'The model could not be restored: build it again.';

export class HookChangedParametersError extends graftError(
  'GRAFT_HOOK_CHANGED_PARAMETERS',
  ({ phase, hook, changes, restored }: FailedPhase & { changes: readonly string[] }) => {
    const promise =
      phase === 'init'
        ? 'an init hook may not add, drop, rename, retype or reshape a parameter, because the checkpoint would no longer fit; rename in postLoad.'
        : 'a postLoad hook may only rename parameters; to change values, call setStorage on the parameter.';
    const what = `A hook of phase ${phase} changed the model's parameters: ${changes.join('; ')}.`;
    return { what, where: hook, fix: `${promise} ${outcomeText(restored)}` };
  },
) {}

export class HookFailedError extends graftError(
  'GRAFT_HOOK_FAILED',
  ({ phase, hook, message, restored, cause }: FailedPhase & { message: string; cause: unknown }) => {
    const ours = GraftError.is(cause) ? cause : null;
    return {
      what: `A hook of phase ${phase} threw: ${ours?.what ?? message}`,
      where: ours?.where === undefined ? hook : `${hook}: ${ours.where}`,
      fix: `${ours?.fix ?? 'correct the hook.'} ${outcomeText(restored)}`,
      cause,
    };
  },
) {}

export class PatchRefusedError extends graftError(
  'GRAFT_PATCH_REFUSED',
  ({ operation, target, problem, fix }: { operation: string; target: string; problem: string; fix: string }) => ({
    what: `${operation} was refused: ${problem}.`,
    where: target,
    fix,
  }),
) {}

export class PatchOrderError extends graftError('GRAFT_PATCH_ORDER', (patch: string, later: readonly string[]) => ({
  what: `${patch} cannot be undone before ${later.join(', ')}, made after it.`,
  where: patch,
  fix: "undo the later patches first; where a reload undoes them, give their hooks reload: 'undo-redo' too.",
})) {}

export class PatchOverwrittenError extends graftError('GRAFT_PATCH_OVERWRITTEN', (patch: string) => ({
  what: `${patch} cannot be undone: its target was changed again outside the ledger.`,
  where: patch,
  fix: 'make every change of a model in place through the ledger.',
})) {}

export class ReloadChangedModelError extends graftError('GRAFT_RELOAD_CHANGED_MODEL', (problem: string, where?: string) => ({
  what: `When a reload ran hooks again, ${problem}.`,
  where: where ?? 'postLoad hooks',
  fix: "use reload: 'keep' or 'undo-redo' on a hook that patches or renames; 'rerun' is for one that only computes from the weights.",
})) {}
