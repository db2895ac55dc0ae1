import type { ServiceIdentifier } from 'inversify';
import { TokenInvalidError } from './service-errors.ts';

/** How long a service lives: as long as the engine, or as long as one loaded model. */
export type Scope = 'engine' | 'model';

/**
 * A typed token with its scope. It shares its type's name: `const Backend: ServiceIdentifier<Backend> = token('Backend', 'engine')`.
 * Two calls give two tokens: import the one that exists.
 */
export function token<T>(name: string, scope: Scope): ServiceIdentifier<T> {
  return Symbol(`${scope}:${name}`);
}

export interface TokenFacts {
  readonly name: string;
  readonly scope: Scope;
}

/**
 * Name and scope of a token.
 * @throws TokenInvalidError for anything that `token()` did not make: its scope could not be checked.
 */
export function tokenFacts(identifier: ServiceIdentifier): TokenFacts {
  const description = typeof identifier === 'symbol' ? (identifier.description ?? '') : '';
  const [, scope, name] = /^(engine|model):(.+)$/.exec(description) ?? [];
  if (scope === undefined || name === undefined) throw new TokenInvalidError(nameOfIdentifier(identifier));
  return { scope: scope as Scope, name };
}

function nameOfIdentifier(identifier: ServiceIdentifier): string {
  return typeof identifier === 'function' ? `class ${identifier.name}` : String(identifier);
}
