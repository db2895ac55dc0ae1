import { messageOf, nearestNames, quotedList } from '@graft/common';
import type { Newable } from 'inversify';
import { type Binding, servesOn } from './binder.ts';
import { injectionsOf } from './injectable.ts';
import { type Scope, type Token, tokenFacts } from './tokens.ts';

export interface BindingRecord {
  readonly plugin: string;
  readonly file: string | null;
  readonly role: Binding['role'];
  /** `class HpuModelRunner`, `constant gguf`, `builder`, or why the class cannot be imported. */
  readonly source: string;
  /** Why it does not serve here; null: it serves. */
  readonly unused: string | null;
}

export interface ServiceRecord {
  readonly token: string;
  readonly scope: Scope;
  readonly isList: boolean;
  /** In the order of the plugins, defaults first: the order of a list, and of decorators. */
  readonly bindings: readonly BindingRecord[];
  /** The classes that serve here and take it. A builder is not known to take anything. */
  readonly injectedInto: readonly string[];
}

export interface DescribedEngine {
  platform: string;
  mode?: string;
  /** Those that the loaded plugins bring. */
  platforms: readonly string[];
}

/** The services of an engine, in the order of their names. Classes are imported, and nothing is built. */
export async function describeServices(bindings: readonly Binding[], engine: DescribedEngine): Promise<ServiceRecord[]> {
  const described = await Promise.all(
    bindings.map(async (binding) => ({ binding, ...(await sourceOf(binding)), unused: unusedBecause(binding, bindings, engine) })),
  );
  const injected = described.flatMap(({ binding, Class, unused }) => {
    return Class === null || unused !== null ? [] : injectionsOf(Class, binding).map(({ value }) => ({ token: value, into: Class.name }));
  });
  const tokens = new Set<Token<unknown>>([...bindings, ...injected].map(({ token }) => token));
  const records = [...tokens].map((token): ServiceRecord => {
    const { name, scope, isList } = tokenFacts(token);
    const ofToken = described
      .filter(({ binding }) => binding.token === token)
      .map(({ binding: { owner, role }, source, unused }): BindingRecord => ({ ...owner, role, source, unused }));
    const injectedInto = [...new Set(injected.filter((one) => one.token === token).map(({ into }) => into))];
    return { token: name, scope, isList, bindings: ofToken, injectedInto };
  });
  return records.sort((a, b) => (a.token < b.token ? -1 : 1));
}

/** `explain --services`, as text. */
export function servicesText(records: readonly ServiceRecord[]): string {
  const line = ({ plugin, file, role, source, unused }: BindingRecord) =>
    `  ${unused === null ? '*' : '-'} ${role === 'decorator' ? 'decorator' : source}, by ${plugin}${file === null ? '' : ` (${file})`}${unused === null ? '' : `: unused, ${unused}`}`;
  return records
    .flatMap(({ token, scope, isList, bindings, injectedInto }) => [
      `${token} (${isList ? 'a list, ' : ''}one for each ${scope === 'engine' ? 'engine' : 'loaded model'})`,
      ...(bindings.length === 0 ? ['  - no plugin binds it'] : bindings.map(line)),
      ...(injectedInto.length === 0 ? [] : [`  injected into ${injectedInto.join(', ')}`]),
    ])
    .join('\n');
}

function unusedBecause(binding: Binding, all: readonly Binding[], { platform, mode, platforms }: DescribedEngine): string | null {
  if (servesOn(binding, platform, mode)) {
    const rivals = all.filter(({ token, role, isDefault }) => token === binding.token && role === 'service' && !isDefault);
    const hasRival = binding.isDefault && !binding.isList && rivals.some((rival) => servesOn(rival, platform, mode));
    return hasRival ? 'a plugin binds another' : null;
  }
  const unknown = binding.platforms?.filter((name) => !platforms.includes(name)) ?? [];
  if (unknown.length > 0)
    return `no loaded plugin brings platform ${quotedList(unknown)} (nearest: ${quotedList(nearestNames(unknown[0]!, platforms, 1), 'none')})`;
  const only = [...(binding.platforms ?? []), ...(binding.modes ?? []).map((name) => `mode ${name}`)];
  return `it is for ${only.join(', ')}`;
}

async function sourceOf({ source }: Binding): Promise<{ Class: Newable | null; source: string }> {
  if (source.kind !== 'class') {
    const name = source.kind === 'constant' ? (source.value as { name?: unknown } | null | undefined)?.name : undefined;
    return { Class: null, source: typeof name === 'string' ? `constant ${name}` : source.kind };
  }
  try {
    const Class = await source.load();
    return { Class, source: `class ${Class.name}` };
  } catch (error) {
    return { Class: null, source: `class that cannot be imported: ${messageOf(error)}` };
  }
}
