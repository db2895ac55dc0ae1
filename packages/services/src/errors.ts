import { graftError, messageOf, quotedList } from '@graft/common';
import { type Owner, ownerText } from './owner.ts';
import type { Scope, TokenFacts } from './tokens.ts';

export interface Bound {
  readonly name: string;
  readonly owner: Owner;
}

export class TokenInvalidError extends graftError('GRAFT_TOKEN_INVALID', (identifier: string) => ({
  what: `${identifier} is not a token.`,
  where: identifier,
  fix: "make one with token<T>('Name') or listToken<T>('Name'), and use that.",
})) {}

export class TokenScopeError extends graftError(
  'GRAFT_TOKEN_SCOPE',
  ({ name, scope }: TokenFacts, container: Scope, owner: Owner | null) => ({
    what: `${name} lives as long as the ${scope}. It was bound or asked for where services live as long as the ${container}.`,
    where: owner === null ? `container of the ${container}` : ownerText(owner),
    fix: scope === 'model' ? 'ask for it in a service of the scope "model".' : "bind it in the engine's container.",
  }),
) {}

export class TokenConflictError extends graftError(
  'GRAFT_TOKEN_CONFLICT',
  (first: Bound, second: Bound & { platforms: readonly string[] | null }) => ({
    what: `${first.name} is bound twice for ${second.platforms === null ? 'every platform' : `platform ${quotedList(second.platforms, 'none', 'and')}`}.`,
    where: `${ownerText(first.owner)} and ${ownerText(second.owner)}`,
    fix: 'load only one of the two, or let one decorate what the other binds: bind.decorate(Token, (inner) => ...).',
  }),
) {}

/** A plugin's bind() calls the binder wrongly. */
export class BindingInvalidError extends graftError('GRAFT_BINDING_INVALID', (call: string, problems: string, owner: Owner) => ({
  what: `${call} is not a valid binding: ${problems}.`,
  where: ownerText(owner),
  fix: "correct the call in the plugin's bind().",
})) {}

export class BinderClosedError extends graftError('GRAFT_BINDER_CLOSED', ({ name, owner }: Bound) => ({
  what: `${name} was bound after the plugin had been loaded.`,
  where: ownerText(owner),
  fix: "bind it before the plugin's bind() returns.",
})) {}

/** A service that nothing binds; `asker` asked for it, or the application. */
export class ServiceNotBoundError extends graftError(
  'GRAFT_SERVICE_NOT_BOUND',
  ({ name, scope }: TokenFacts, nearest: readonly string[], asker: Bound | null) => ({
    what: `Nothing binds ${name}.`,
    where: `token ${name} (${scope})${asker === null ? '' : `, needed for ${asker.name} of ${ownerText(asker.owner)}`}`,
    fix: `bind it in bind() of a plugin that serves this platform (bound: ${quotedList(nearest, 'nothing', 'and')}).`,
  }),
) {}

export class ServiceCycleError extends graftError('GRAFT_SERVICE_CYCLE', ({ name, owner }: Bound, needed: string) => ({
  what: name === needed ? `Building ${name} needs ${name}.` : `Building ${name} needs ${needed}, whose building waits for ${name}.`,
  where: ownerText(owner),
  fix: 'take one of the two services out of the circle, or ask for it later.',
})) {}

export class ServiceFailedError extends graftError('GRAFT_SERVICE_FAILED', ({ name, owner }: Bound, cause: unknown) => ({
  what: `Building ${name} failed: ${messageOf(cause)}`,
  where: ownerText(owner),
  fix: 'fix the cause; the next request builds it again.',
  cause,
})) {}

/** A plugin gave something as a service that cannot be one. */
export class ServiceInvalidError extends graftError(
  'GRAFT_SERVICE_INVALID',
  ({ name, owner, isList, must, role }: Bound & TokenFacts & { role: string }, given: string) => ({
    what: `${role === 'decorator' ? 'A decorator' : 'A binding'} of ${name} gave ${given}.`,
    where: ownerText(owner),
    fix: `give ${isList && role === 'decorator' ? 'a list, each element of it ' : ''}${must === 'function' ? 'a function' : `an object${must.length === 0 ? '' : ` with the methods ${quotedList(must, '', 'and')}`}`}.`,
  }),
) {}

export class ServiceNotInjectableError extends graftError(
  'GRAFT_SERVICE_NOT_INJECTABLE',
  (Class: string, parameters: number, injected: number, boundTo: Bound | null) => ({
    what: `The constructor of ${Class} takes ${parameters} ${parameters === 1 ? 'parameter' : 'parameters'}, and ${injected} carry @inject(token).`,
    where: boundTo === null ? `class ${Class}` : `${ownerText(boundTo.owner)}, which binds ${boundTo.name} to ${Class}`,
    fix: "put @inject(token) before each parameter, or leave the constructor out to take the base's.",
  }),
) {}
