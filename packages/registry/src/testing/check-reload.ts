import { CheckFailedError } from './check-errors.ts';
import type { CheckOutcome } from './subject.ts';

/** How to reload weights: with an engine, or with a model that the test itself takes through its phases. */
export interface ReloadSubject<Running> {
  /** Two checkpoints of one architecture with different weights. */
  readonly checkpoints: readonly [string, string];
  load(checkpoint: string): Promise<Running>;
  reload(running: Running, checkpoint: string): Promise<unknown>;
  /** Numbers that depend on every weight: the logits of a fixed prompt. Compared bit for bit. */
  outputs(running: Running): Promise<Iterable<number>>;
  close?(running: Running): Promise<unknown>;
  /** How many reloads, to and fro; default 3. */
  readonly rounds?: number;
}

/**
 * After each reload, outputs equal those of a fresh load of the same checkpoint, bit for bit.
 * @throws CheckFailedError where they differ, and where the two checkpoints give the same outputs, which would show nothing.
 */
export async function checkReloadEqualsFreshLoad<Running>(subject: ReloadSubject<Running>): Promise<CheckOutcome> {
  const { checkpoints, rounds = 3 } = subject;
  const fresh = [await freshOutputs(subject, checkpoints[0]), await freshOutputs(subject, checkpoints[1])] as const;
  const failed = (where: string, problem: string) => new CheckFailedError('GRAFT_CHECK_RELOAD', where, [problem]);
  const same = `the two checkpoints give the same ${fresh[0].length} outputs, and a reload that did nothing would pass`;
  if (firstDifference(fresh[0], fresh[1]) === null) throw failed(checkpoints.join(' and '), same);
  const running = await subject.load(checkpoints[0]);
  try {
    for (let round = 1; round <= rounds; round++) {
      const which = round % 2 === 1 ? 1 : 0;
      await subject.reload(running, checkpoints[which]);
      const problem = firstDifference([...(await subject.outputs(running))], fresh[which]);
      if (problem !== null) throw failed(checkpoints[which], `after reload ${round}, ${problem}`);
    }
  } finally {
    await subject.close?.(running);
  }
  return { outcome: 'held', detail: `${rounds} reloads, ${fresh[0].length} outputs each, bit for bit` };
}

async function freshOutputs<Running>({ load, outputs, close }: ReloadSubject<Running>, checkpoint: string): Promise<number[]> {
  const running = await load(checkpoint);
  try {
    return [...(await outputs(running))];
  } finally {
    await close?.(running);
  }
}

function firstDifference(actual: readonly number[], expected: readonly number[]): string | null {
  if (actual.length !== expected.length) return `there are ${actual.length} instead of ${expected.length}`;
  const at = actual.findIndex((value, index) => !Object.is(value, expected[index]));
  return at === -1 ? null : `number ${at} is ${actual[at]} instead of ${expected[at]}`;
}
