// The kit for a plugin's own tests, under any runner. A property that does not hold throws a GraftError.
export { CheckFailedError, CheckTargetError, PluginCheckFailedError } from './testing/check-errors.ts';
export { type CheckRecord, checkPlugin, type PluginReport } from './testing/check-plugin.ts';
export type { ReloadSubject } from './testing/check-reload.ts';
export type { CheckOutcome, CheckPluginOptions, CheckTarget } from './testing/subject.ts';
