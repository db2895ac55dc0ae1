import { graftError, kindOf, messageOf, nearestNames, quotedList } from '@graft/common';
import type { Binding } from './binder.ts';
import { type Owner, ownerText } from './owner.ts';
import type { Scope, TokenFacts } from './tokens.ts';

export interface Bound {
  readonly name: string;
  readonly owner: Owner;
}

const capital = (text: string): string => text[0]!.toUpperCase() + text.slice(1);

export class TokenInvalidError extends graftError(
  'GRAFT_TOKEN_INVALID',
  (identifier: unknown, known: readonly string[], owner: Owner | null) => ({
    what: `${capital(kindOf(identifier))} is not a token.`,
    where: owner === null ? 'token' : ownerText(owner),
    fix:
      identifier === undefined
        ? 'check the name of its import: an export that does not exist may be undefined.'
        : typeof identifier === 'function'
          ? `write bind(Token).to(${identifier.name}).`
          : `import the token${typeof identifier === 'string' ? ` ${quotedList(nearestNames(identifier, known, 1))}` : ''}, or make one with token<T>('Name').`,
  }),
) {}

export class TokenScopeError extends graftError(
  'GRAFT_TOKEN_SCOPE',
  ({ name, scope }: TokenFacts, container: Scope, owner: Owner | null) => ({
    what: `${name} lives as long as the ${scope}. It was bound or asked for where services live as long as the ${container}.`,
    where: owner === null ? `container of the ${container}` : ownerText(owner),
    fix: scope === 'model' ? 'ask for it in a service of the scope "model".' : "bind it in the engine's container.",
  }),
) {}

export class TokenTwinError extends graftError('GRAFT_TOKEN_TWIN', ({ name, owner }: Bound, first: Bound) => ({
  what: `Two tokens are named "${name}".`,
  where: `${ownerText(owner)} and ${ownerText(first.owner)}`,
  fix: 'import the token that exists in place of making one, or give yours another name.',
})) {}

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
  ({ name, scope, token }: TokenFacts & { token: unknown }, nearest: readonly string[], asker: Bound | null, instead?: Binding) => ({
    what: `Nothing binds ${name}.`,
    where: `token ${name} (${scope})${asker === null ? '' : `, needed for ${asker.name} of ${ownerText(asker.owner)}`}`,
    fix:
      instead === undefined
        ? `bind it in bind() of a plugin that serves this platform (bound: ${quotedList(nearest, 'nothing', 'and')}).`
        : instead.token === token
          ? `${ownerText(instead.owner)} binds it for platform ${quotedList(instead.platforms ?? [])}, which no loaded plugin brings: correct that name.`
          : `${ownerText(instead.owner)} binds another token, named "${instead.name}": import ${name} from the package that exports it, and bind that.`,
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
    fix:
      typeof must === 'function'
        ? 'correct what the message names.'
        : given.startsWith('the class')
          ? `write bind(${name}).to(${given.split(' ')[2]}).`
          : `give ${isList && role === 'decorator' ? 'a list, each element of it ' : ''}${must === 'function' ? 'a function' : `an object${must.length === 0 ? '' : ` with the methods ${quotedList(must, '', 'and')}`}`}.`,
  }),
) {}

/** An implementation states another version of the interface that it implements. */
export class ContractVersionError extends graftError(
  'GRAFT_CONTRACT_VERSION',
  ({ name, owner }: Bound, stated: unknown, contract: number) => ({
    what: `${name} was written for contract ${String(stated)}, and this version of Graft has contract ${contract}.`,
    where: ownerText(owner),
    fix: `install a version of the plugin with contract ${contract}, or adapt it as CHANGELOG.md says and state \`contract: ${contract}\`.`,
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
