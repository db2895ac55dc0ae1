import { GraftError, messageOf } from '@graft/common';
import { quotedList } from '../names.ts';
import { type Owner, ownerText } from '../registration.ts';
import type { Scope, TokenFacts } from './tokens.ts';

/** A service, and who bound it. */
export interface Bound {
  readonly name: string;
  readonly owner: Owner;
}

/** Something was used as a token that `token()` did not make. */
export class TokenInvalidError extends GraftError {
  constructor(identifier: string) {
    super({
      code: 'GRAFT_TOKEN_INVALID',
      what: `${identifier} is not a token.`,
      where: identifier,
      fix: "make one with token<T>('Name') or listToken<T>('Name'), and use that.",
    });
  }
}

/** A token was bound or asked for in a container of the other scope. */
export class TokenScopeError extends GraftError {
  constructor({ name, scope }: TokenFacts, container: Scope, owner: Owner | null) {
    super({
      code: 'GRAFT_TOKEN_SCOPE',
      what: `${name} lives as long as the ${scope}. It was bound or asked for where services live as long as the ${container}.`,
      where: owner === null ? `container of the ${container}` : ownerText(owner),
      fix: scope === 'model' ? 'ask for it in a service of the scope "model".' : "bind it in the engine's container.",
    });
  }
}

/** A token is bound twice for one platform. */
export class TokenConflictError extends GraftError {
  constructor(first: Bound, second: Bound & { platforms: readonly string[] | null }) {
    const platforms = second.platforms === null ? 'every platform' : `platform ${quotedList(second.platforms, 'none', 'and')}`;
    super({
      code: 'GRAFT_TOKEN_CONFLICT',
      what: `${first.name} is bound twice for ${platforms}.`,
      where: `${ownerText(first.owner)} and ${ownerText(second.owner)}`,
      fix: 'load only one of the two, or let one decorate what the other binds: bind.decorate(Token, (inner) => ...).',
    });
  }
}

/** A plugin kept its binder and used it after it was loaded. */
export class BinderClosedError extends GraftError {
  constructor({ name, owner }: Bound) {
    super({
      code: 'GRAFT_BINDER_CLOSED',
      what: `${name} was bound after the plugin had been loaded.`,
      where: ownerText(owner),
      fix: "bind it before the plugin's bind() returns.",
    });
  }
}

/** A service that nothing binds. */
export class ServiceNotBoundError extends GraftError {
  /** @param asker what asked for it; null: the application. */
  constructor({ name, scope }: TokenFacts, nearest: readonly string[], asker: Bound | null) {
    const needed = asker === null ? '' : `, needed for ${asker.name} of ${ownerText(asker.owner)}`;
    super({
      code: 'GRAFT_SERVICE_NOT_BOUND',
      what: `Nothing binds ${name}.`,
      where: `token ${name} (${scope})${needed}`,
      fix: `bind it in bind() of a plugin that serves this platform (bound: ${quotedList(nearest, 'nothing', 'and')}).`,
    });
  }
}

/** A service needs itself. */
export class ServiceCycleError extends GraftError {
  constructor({ name, owner }: Bound, needed: string) {
    super({
      code: 'GRAFT_SERVICE_CYCLE',
      what: name === needed ? `Building ${name} needs ${name}.` : `Building ${name} needs ${needed}, whose building waits for ${name}.`,
      where: ownerText(owner),
      fix: 'take one of the two services out of the circle, or ask for it later.',
    });
  }
}

/** Building a service threw. */
export class ServiceFailedError extends GraftError {
  constructor({ name, owner }: Bound, cause: unknown) {
    super({
      code: 'GRAFT_SERVICE_FAILED',
      what: `Building ${name} failed: ${messageOf(cause)}`,
      where: ownerText(owner),
      fix: 'fix the cause; the next request builds it again.',
      cause,
    });
  }
}

/** A class whose constructor parameters are not known to the container. */
export class ServiceNotInjectableError extends GraftError {
  /** @param boundTo the service that it was bound to. */
  constructor(Class: string, parameters: number, injected: number, boundTo: Bound | null) {
    super({
      code: 'GRAFT_SERVICE_NOT_INJECTABLE',
      what: `The constructor of ${Class} takes ${parameters} ${parameters === 1 ? 'parameter' : 'parameters'}, and ${injected} carry @inject(token).`,
      where: boundTo === null ? `class ${Class}` : `${ownerText(boundTo.owner)}, which binds ${boundTo.name} to ${Class}`,
      fix: "put @inject(token) before each parameter, or leave the constructor out to take the base's.",
    });
  }
}
