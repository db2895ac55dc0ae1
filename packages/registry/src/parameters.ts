import type { ParameterFacts } from './model.ts';

export type NamedParameters = ReadonlyMap<string, Readonly<ParameterFacts> & { readonly parameter: object }>;

export function namedParameters(named: Iterable<[string, ParameterFacts]>): NamedParameters {
  return new Map([...named].map(([name, parameter]) => [name, { parameter, dtype: parameter.dtype, shape: [...parameter.shape] }]));
}

export interface ParameterChange {
  readonly kind: 'added' | 'dropped' | 'replaced' | 'renamed' | 'retyped' | 'reshaped';
  readonly name: string;
  /** Names, dtypes or shapes; empty where a parameter was added or dropped. */
  readonly before: string;
  readonly after: string;
}

/** The differences between two moments. A parameter that has another name is the same object; another object under its name replaced it. */
export function parameterChanges(before: NamedParameters, after: NamedParameters): ParameterChange[] {
  const names = new Map([...after].map(([name, { parameter }]) => [parameter, name]));
  const found = new Set<string>();
  const changes = [...before].flatMap(([name, was]): ParameterChange[] => {
    const to = after.has(name) ? name : names.get(was.parameter);
    if (to === undefined || found.has(to) || (to !== name && before.has(to))) return [{ kind: 'dropped', name, before: '', after: '' }];
    found.add(to);
    const is = after.get(to)!;
    const isReplaced = is.parameter !== was.parameter && !names.has(was.parameter);
    const facts = [
      { kind: 'renamed', name, before: name, after: to },
      { kind: 'retyped', name: to, before: was.dtype, after: is.dtype },
      { kind: 'reshaped', name: to, before: shapeText(was), after: shapeText(is) },
    ] as const;
    const replaced = { kind: 'replaced', name, before: '', after: '' } as const;
    return [...(isReplaced ? [replaced] : []), ...facts.filter((fact) => fact.before !== fact.after)];
  });
  const added = [...after.keys()].filter((name) => !found.has(name));
  return [...changes, ...added.map((name) => ({ kind: 'added', name, before: '', after: '' }) as const)];
}

/** `"w" was retyped from float32 to float16`. */
export function changeText({ kind, name, before, after }: ParameterChange): string {
  if (kind === 'renamed') return `"${name}" was renamed to "${after}"`;
  return `"${name}" was ${kind}${before === '' ? '' : ` from ${before} to ${after}`}`;
}

/** `float32 [2, 3]`. */
export function factsText(facts: ParameterFacts): string {
  return `${facts.dtype} ${shapeText(facts)}`;
}

function shapeText({ shape }: ParameterFacts): string {
  return `[${shape.join(', ')}]`;
}
