import { GraftError } from '@graft/common';
import { quotedList } from './names.ts';
import { type Owner, ownerText } from './registration.ts';

interface TokenName {
  name: string;
  scope: 'engine' | 'model';
}

/** Something was used as a token that `token()` did not make. */
export class TokenInvalidError extends GraftError {
  constructor(identifier: string) {
    super({
      code: 'GRAFT_TOKEN_INVALID',
      what: `${identifier} is not a token: its scope is unknown.`,
      where: identifier,
      fix: "make one with token<T>('Name', 'engine' | 'model') and use that.",
    });
  }
}

/** A token was bound or asked for in a container of the other scope. */
export class TokenScopeError extends GraftError {
  constructor({ name, scope }: TokenName, container: 'engine' | 'model', owner: Owner | null) {
    super({
      code: 'GRAFT_TOKEN_SCOPE',
      what: `${name} lives as long as the ${scope}, and the ${container} container was given it or asked for it.`,
      where: owner === null ? `${container} container` : ownerText(owner),
      fix: scope === 'engine' ? 'bind it in bindEngine.' : "bind it in bindModel, and ask the model's container for it.",
    });
  }
}

/** A token is bound twice. */
export class TokenConflictError extends GraftError {
  constructor(name: string, first: Owner, second: Owner) {
    super({
      code: 'GRAFT_TOKEN_CONFLICT',
      what: `${name} is bound twice.`,
      where: `${ownerText(first)} and ${ownerText(second)}`,
      fix: 'bind it once; what a plugin that brings platforms binds is used on those platforms only.',
    });
  }
}

/** A plugin kept its binder and used it after it was loaded. */
export class BinderClosedError extends GraftError {
  constructor(name: string, owner: Owner) {
    super({
      code: 'GRAFT_BINDER_CLOSED',
      what: `${name} was bound after the plugin had been loaded.`,
      where: ownerText(owner),
      fix: 'bind it before bindEngine or bindModel returns.',
    });
  }
}

interface MissingService extends TokenName {
  /** Names of what is bound, nearest first. */
  nearest: readonly string[];
  /** The service whose building asked for it; null where the application asked. */
  neededBy?: { name: string; owner: Owner } | null;
}

/** A service that nothing binds. */
export class ServiceNotBoundError extends GraftError {
  readonly #missing: MissingService;

  constructor(missing: MissingService) {
    const { name, scope, nearest, neededBy = null } = missing;
    const needed = neededBy === null ? '' : `, needed for ${neededBy.name} of ${ownerText(neededBy.owner)}`;
    super({
      code: 'GRAFT_SERVICE_NOT_BOUND',
      what: `Nothing binds ${name}.`,
      where: `token ${name} (${scope})${needed}`,
      fix: `bind it in ${scope === 'engine' ? 'bindEngine' : 'bindModel'} of a plugin that serves this platform (bound: ${quotedList(nearest, 'nothing', 'and')}).`,
    });
    this.#missing = missing;
  }

  /** The same error, saying which service's building asked; the innermost one is kept. */
  neededFor(name: string, owner: Owner): ServiceNotBoundError {
    return this.#missing.neededBy == null ? new ServiceNotBoundError({ ...this.#missing, neededBy: { name, owner } }) : this;
  }
}

/** A service is built asynchronously and was asked for synchronously. */
export class ServiceAsyncError extends GraftError {
  constructor(name: string, owner: Owner) {
    super({
      code: 'GRAFT_SERVICE_ASYNC',
      what: `${name} is built asynchronously and is not ready.`,
      where: ownerText(owner),
      fix: 'ask for it with getAsync, once, before it is needed synchronously.',
    });
  }
}

/** A service needs itself. */
export class ServiceCycleError extends GraftError {
  constructor(name: string, owner: Owner) {
    super({
      code: 'GRAFT_SERVICE_CYCLE',
      what: `Building ${name} needs ${name}.`,
      where: ownerText(owner),
      fix: 'take one of the two services out of the circle, or ask for it later.',
    });
  }
}

/** Building a service threw. */
export class ServiceFailedError extends GraftError {
  constructor(name: string, owner: Owner, message: string, cause: unknown) {
    super({
      code: 'GRAFT_SERVICE_FAILED',
      what: `Building ${name} failed: ${message}`,
      where: ownerText(owner),
      fix: 'mend the cause; the next request builds it again.',
      cause,
    });
  }
}

/** A class whose constructor parameters are not known to the container. */
export class ServiceNotInjectableError extends GraftError {
  constructor({
    Class,
    parameters,
    injected,
    token,
    owner,
  }: { Class: string; parameters: number; injected: number; token: string; owner: Owner }) {
    super({
      code: 'GRAFT_SERVICE_NOT_INJECTABLE',
      what: `The constructor of ${Class} takes ${parameters} ${parameters === 1 ? 'parameter' : 'parameters'}, and ${injected} carry @inject(token).`,
      where: `${ownerText(owner)}, which binds ${token} to ${Class}`,
      fix: "put @inject(token) before each parameter, or leave the constructor out to take the base's.",
    });
  }
}
