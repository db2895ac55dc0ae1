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

function make<T>(facts: TokenFacts): Token<T> {
  const made = Symbol(facts.name) as Token<T>;
  known.set(made, facts);
  return made;
}

/** A token of one service. Two calls give two tokens: import the one that exists. */
export function token<T>(name: string, scope: Scope = 'engine'): Token<T> {
  return make({ name, scope, isList: false });
}

/** A token of a list; with nothing bound it is empty. */
export function listToken<T>(name: string, scope: Scope = 'engine'): Token<readonly T[]> {
  return make({ name, scope, isList: true });
}

/** @throws TokenInvalidError for anything that `token()` and `listToken()` did not make. */
export function tokenFacts(identifier: unknown): TokenFacts {
  const facts = known.get(identifier as symbol);
  if (facts === undefined) throw new TokenInvalidError(typeof identifier === 'function' ? `class ${identifier.name}` : String(identifier));
  return facts;
}
