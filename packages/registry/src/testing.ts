// What a plugin author runs in the tests of a plugin, under any runner: each check throws a GraftError where its property does not hold.
export { checkContractHolds } from './testing/check-contract.ts';
export { type CopiesSubject, checkCopiesShareNothing } from './testing/check-copies.ts';
export {
  CheckParametersError,
  CheckReloadError,
  CheckRepeatError,
  CheckSharedError,
  CheckTargetError,
  CheckUndoError,
  PluginCheckFailedError,
} from './testing/check-errors.ts';
export { checkInitKeepsParameters, checkPhasesRepeat, checkUndoRestores } from './testing/check-model.ts';
export { type CheckPluginOptions, type CheckRecord, checkPlugin, type PluginReport } from './testing/check-plugin.ts';
export { checkReloadEqualsFreshLoad, type ReloadSubject } from './testing/check-reload.ts';
export type { CheckOutcome, CheckSubject, CheckTarget } from './testing/subject.ts';
