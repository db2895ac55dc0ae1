import { GraftError, messageOf } from '@graft/common';

/**
 * Calls a synchronous method of a plugin. A promise is refused: nobody would handle its rejection, which ends the process.
 * @throws what `failed` makes, of what happened; errors that have a code as they are.
 */
export function callPlugin<T>(call: () => T, failed: (what: string, cause?: unknown) => GraftError): T {
  let result: T;
  try {
    result = call();
  } catch (cause) {
    throw GraftError.is(cause) ? cause : failed(`threw: ${messageOf(cause)}`, cause);
  }
  if (typeof (result as PromiseLike<unknown> | null | undefined)?.then !== 'function') return result;
  Promise.resolve(result).catch(() => undefined);
  throw failed('gave a promise, and must be synchronous');
}
