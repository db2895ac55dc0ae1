import { messageOf } from '@graft/common';
import type { Newable } from 'inversify';
import type { Binding } from './binder.ts';
import { injectionsOf } from './injectable.ts';
import { type Scope, type Token, tokenFacts } from './tokens.ts';

/** Who bound what. */
export interface BoundRecord {
  readonly plugin: string;
  readonly file: string | null;
  /** `class HpuModelRunner`, `constant`, `builder`, or why the class cannot be imported. */
  readonly what: string;
}

/** One token in one engine, as data. */
export interface ServiceRecord {
  readonly token: string;
  readonly scope: Scope;
  readonly isList: boolean;
  /** What serves: one, the elements of a list in their order, or none. */
  readonly bound: readonly BoundRecord[];
  /** The default that a plugin's service took the place of. */
  readonly replaced: BoundRecord | null;
  readonly decorators: readonly BoundRecord[];
  /** The classes that it is injected into. */
  readonly injectedInto: readonly string[];
}

/**
 * The services of an engine, in the order of their names. Classes are imported, and nothing is built.
 * @param bindings what `LoadedPlugins.bindings` gave.
 * @param consumers classes that no token names, and services are injected into.
 */
export async function describeServices(bindings: readonly Binding[], consumers: readonly Newable[] = []): Promise<ServiceRecord[]> {
  const classes = await Promise.all(bindings.map(classOf));
  const injected = [...classes, ...consumers].flatMap((Class) =>
    typeof Class === 'function' ? injectionsOf(Class, null).map(({ value }) => ({ token: value, into: Class.name })) : [],
  );
  const tokens = new Set<Token<unknown>>([...bindings, ...injected].map(({ token }) => token));
  const records = [...tokens].map((token): ServiceRecord => {
    const having = (role: Binding['role'], isDefault?: boolean): BoundRecord[] =>
      bindings.flatMap(({ source, owner, ...binding }, i) => {
        if (binding.token !== token || binding.role !== role || (isDefault ?? binding.isDefault) !== binding.isDefault) return [];
        const Class = classes[i];
        return { ...owner, what: typeof Class === 'function' ? `class ${Class.name}` : (Class ?? source.kind) };
      });
    const { name, scope, isList } = tokenFacts(token);
    const [ofPlugin, ofUs] = [having('service', false), having('service', true)];
    return {
      token: name,
      scope,
      isList,
      bound: isList ? having('service') : ofPlugin.length > 0 ? ofPlugin : ofUs,
      replaced: isList || ofPlugin.length === 0 ? null : (ofUs[0] ?? null),
      decorators: having('decorator'),
      injectedInto: [...new Set(injected.filter((one) => one.token === token).map(({ into }) => into))],
    };
  });
  return records.sort((a, b) => (a.token < b.token ? -1 : 1));
}

/** `explain --services`, as text. */
export function servicesText(records: readonly ServiceRecord[]): string {
  const named = ({ plugin, file, what }: BoundRecord) => `${what}, by ${plugin}${file === null ? '' : ` (${file})`}`;
  return records
    .flatMap(({ token, scope, isList, bound, replaced, decorators, injectedInto }) => [
      `${token} (${isList ? 'list, ' : ''}one for each ${scope === 'engine' ? 'engine' : 'loaded model'})`,
      ...(bound.length === 0 ? ['  nothing is bound'] : bound.map((one) => `  ${isList ? '+' : '='} ${named(one)}`)),
      ...(replaced === null ? [] : [`    in the place of ${named(replaced)}`]),
      ...decorators.map((one) => `  decorated by ${one.plugin}${one.file === null ? '' : ` (${one.file})`}`),
      `  injected into ${injectedInto.join(', ') || 'nothing'}`,
    ])
    .join('\n');
}

async function classOf({ source }: Binding): Promise<Newable | string | null> {
  if (source.kind !== 'class') return null;
  try {
    return await source.load();
  } catch (error) {
    return `class that cannot be imported: ${messageOf(error)}`;
  }
}
