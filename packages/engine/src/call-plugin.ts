import { GraftError, graftError, messageOf } from '@graft/common';
import { boundBy, ownerText } from '@graft/registry';

/**
 * Calls a synchronous method of a plugin. A promise is refused: its rejection would go unhandled and end the process.
 * @throws the error that `failed` makes; an error that already has a code is rethrown unchanged.
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
  throw failed('returned a promise, but must be synchronous');
}

/** A method of a service threw, or returned a value that the engine cannot use. */
export class ServiceCallError extends graftError('GRAFT_SERVICE_CALL', (call: string, by: string, what: string, cause?: unknown) => ({
  what: `${call} ${what}.`,
  where: by || call,
  fix: 'correct the service; graft explain --services lists what plugins bind.',
  cause,
})) {}

/** @param call the method that returned `value`, with its token. @param by the service, for errors. */
export function expectParts<T>(value: T, parts: readonly string[], call: string, by: string): T {
  const missing = parts.find(
    (name) => !['function', 'object'].includes(typeof (value as Record<string, unknown> | null | undefined)?.[name]),
  );
  if (missing === undefined) return value;
  const given = typeof value === 'object' && value !== null ? 'an object' : String(value);
  throw new ServiceCallError(call, by, `returned ${given}, which has no "${missing}"`);
}

/** `class or name of plugin "x" (file)`. */
export function nameOfService(service: object): string {
  const { name = service.constructor.name } = service as { name?: string };
  const owner = boundBy(service);
  return [name, owner === undefined ? '' : ownerText(owner)].filter((part) => part !== '').join(' of ');
}

/**
 * The service with errors that name it: an error of a method becomes a ServiceCallError, except an error with a code and the reason of an aborted signal.
 * @param gives the parts that the result of each method must have.
 */
export function guarded<T extends object>(token: string, service: T, gives: Partial<Record<keyof T, readonly string[]>> = {}): T {
  const by = nameOfService(service);
  const get = (_: T, key: string | symbol): unknown => {
    const method: unknown = Reflect.get(service, key);
    if (typeof method !== 'function') return method;
    const call = `${token}.${String(key)}()`;
    const check = <R>(result: R): R => expectParts(result, gives[key as keyof T] ?? [], call, by);
    return (...args: readonly unknown[]): unknown => {
      const fail = (cause: unknown): never => {
        const signals = args.flatMap((arg) => [arg, (arg as { signal?: unknown } | null | undefined)?.signal]);
        const isReason = signals.some((signal) => signal instanceof AbortSignal && signal.aborted);
        throw isReason || GraftError.is(cause) ? cause : new ServiceCallError(call, by, `threw: ${messageOf(cause)}`, cause);
      };
      try {
        const result: unknown = method.apply(service, args);
        return result instanceof Promise ? result.then(check, fail) : check(result);
      } catch (cause) {
        return fail(cause);
      }
    };
  };
  return new Proxy({} as T, { get }); // not over the service itself, which may be frozen
}
