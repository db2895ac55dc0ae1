import type { InspectableModel } from '../model.ts';
import type { CheckOutcome, Subject } from './subject.ts';

/**
 * What the plugin's override relies on (`reliesOn`) is there: on upstream's classes, in their manifest and on a built model.
 * @throws ContractBrokenError that names each breach, and what building throws.
 */
export async function checkContractHolds<Context, Model extends InspectableModel>({
  plugin,
  target,
  resolution,
  build,
}: Subject<Context, Model>): Promise<CheckOutcome> {
  await resolution.buildUnderContract(() => build().model);
  const own = resolution.candidates.filter(({ plugin: by, platform }) => by === plugin.name && platform === target.platform);
  const stated = own.filter(({ contract }) => contract !== 'none');
  if (stated.length === 0) return { outcome: 'not checked', detail: 'no override here states a `reliesOn`' };
  const notes = stated.flatMap(({ contractNotes }) => contractNotes);
  return stated.every(({ contract }) => contract === 'holds')
    ? { outcome: 'held', detail: 'all that `reliesOn` names is there' }
    : { outcome: 'not checked', detail: `no breach was found, but not all could be looked at: ${notes.join('; ')}` };
}
