import { TokenInvalidError } from './errors.ts';

/** How long a service lives: as long as the engine, or as long as one loaded model. */
export type Scope = 'engine' | 'model';

declare const service: unique symbol;

/** Names a service of type `T`. It shares the name of that type: `export const Backend = token<Backend>('Backend')`. */
export type Token<T> = symbol & { readonly [service]: T };

export interface TokenFacts {
  readonly name: string;
  readonly scope: Scope;
  /** Whether the service is a list, to which every plugin may add with `bind.many`. */
  readonly isList: boolean;
}

const known = new Map<symbol, TokenFacts>();

/** A token of one service. Two calls give two tokens: import the one that exists. */
export function token<T>(name: string, scope: Scope = 'engine', isList = false): Token<T> {
  const made = Symbol(name) as Token<T>;
  known.set(made, { name, scope, isList });
  return made;
}

/** A token of a list; with nothing bound it is empty. */
export function listToken<T>(name: string, scope?: Scope): Token<readonly T[]> {
  return token(name, scope, true);
}

/** @throws TokenInvalidError for anything that `token()` and `listToken()` did not make. */
export function tokenFacts(identifier: unknown): TokenFacts {
  const facts = known.get(identifier as symbol);
  if (facts === undefined) throw new TokenInvalidError(typeof identifier === 'function' ? `class ${identifier.name}` : String(identifier));
  return facts;
}
