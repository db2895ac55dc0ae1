import { kindOf, quotedList } from '@graft/common';
import { TokenInvalidError } from './errors.ts';
import type { Owner } from './owner.ts';

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
  readonly must: Must;
  /** The version of the service's interface; null where it has none. */
  readonly contract: number | null;
}

/**
 * The methods that a service, or each element of a list, must have; or `function`; or a function that describes a value that cannot be the service and
 * gives null for another. Fields are left to the compiler. Undefined is never a service.
 */
export type Must = readonly string[] | 'function' | ((value: unknown) => string | null);

const known = new Map<symbol, TokenFacts>();

/**
 * A token of one service. Two calls give two tokens: import the one that exists.
 * @param contract the version of `T`. A service that states another one (`readonly contract = 1`) is refused.
 */
export function token<T>(name: string, scope: Scope = 'engine', must: Must = [], contract: number | null = null): Token<T> {
  return make({ name, scope, isList: false, must, contract });
}

/** A token of a list; with nothing bound it is empty. */
export function listToken<T>(name: string, scope: Scope = 'engine', must: Must = []): Token<readonly T[]> {
  return make({ name, scope, isList: true, must, contract: null });
}

function make<T>(facts: TokenFacts): Token<T> {
  const made = Symbol(facts.name) as Token<T>;
  known.set(made, facts);
  return made;
}

/** @throws TokenInvalidError for anything that `token()` and `listToken()` did not make. */
export function tokenFacts(identifier: unknown, owner: Owner | null = null): TokenFacts {
  const facts = known.get(identifier as symbol);
  if (facts === undefined)
    throw new TokenInvalidError(
      identifier,
      [...known.values()].map(({ name }) => name),
      owner,
    );
  return facts;
}

/** Describes a value that cannot be the service; null where it can. */
export function misfit(value: unknown, must: Must): string | null {
  if (typeof must === 'function') return must(value);
  const isObject = typeof value === 'function' || (typeof value === 'object' && value !== null);
  const kind = isObject && typeof value !== 'function' ? 'an object' : kindOf(value);
  if (value === undefined || must === 'function') return typeof value === 'function' ? null : kind;
  const missing = must.filter((name) => typeof (value as Record<string, unknown> | null)?.[name] !== 'function');
  if (missing.length === 0) return null;
  return isObject ? `${kind} without ${quotedList(missing, '', 'and')}` : kind;
}
