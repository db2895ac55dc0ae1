import { GraftError, graftError, messageOf } from '@graft/common';

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

/** A method of a plugin's service gave something that the engine cannot use. */
export class PluginResultError extends graftError('GRAFT_PLUGIN_RESULT', (call: string, given: string, method: string) => ({
  what: `${call} gave ${given}, which has no method ${method}().`,
  where: call,
  fix: `return an object with ${method}(); graft explain --services names the plugin.`,
})) {}

/** @param call the method that gave `value`, with its token. */
export function expectMethods<T>(value: T, methods: readonly (keyof T & string)[], call: string): T {
  const missing = methods.find((name) => typeof (value as T | undefined)?.[name] !== 'function');
  if (missing !== undefined)
    throw new PluginResultError(call, typeof value === 'object' && value !== null ? 'an object' : String(value), missing);
  return value;
}
