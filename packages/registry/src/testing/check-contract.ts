import type { InspectableModel } from '../model.ts';
import { type CheckOutcome, type CheckSubject, loadSubject } from './subject.ts';

/**
 * What the plugin's override relies on (`reliesOn`) is there: on upstream's classes, in their manifest and on a built model.
 * @throws ContractBrokenError that names each breach, and what loading and building throw.
 */
export async function checkContractHolds<Context, Model extends InspectableModel>(
  subject: CheckSubject<Context, Model>,
): Promise<CheckOutcome> {
  const { resolution, build } = await loadSubject(subject);
  await resolution.buildUnderContract(() => build().model);
  const own = resolution.candidates.filter(({ plugin, platform }) => plugin === subject.plugin.name && platform === subject.platform);
  const stated = own.filter(({ contract }) => contract !== 'none');
  if (stated.length === 0) return { outcome: 'not checked', detail: 'no override here states a `reliesOn`' };
  const notes = stated.flatMap(({ contractNotes }) => contractNotes);
  return stated.every(({ contract }) => contract === 'holds')
    ? { outcome: 'held', detail: 'all that `reliesOn` names is there' }
    : { outcome: 'not checked', detail: `no breach was found, but not all could be looked at: ${notes.join('; ')}` };
}
