import type { ParameterFacts } from './model.ts';

interface Seen {
  readonly facts: ParameterFacts;
  readonly dtype: string;
  readonly shape: readonly number[];
}

/** A model's parameters (or buffers) at one moment: what was there, by name and by identity. */
export class ParameterSnapshot {
  private readonly byName = new Map<string, Seen>();

  constructor(named: Iterable<[string, ParameterFacts]>) {
    for (const [name, facts] of named) this.byName.set(name, { facts, dtype: facts.dtype, shape: [...facts.shape] });
  }

  /** Whether `later` holds the very same objects under the same names, unchanged. */
  isSame(later: ParameterSnapshot): boolean {
    const sameObjects = [...this.byName].every(([name, { facts }]) => later.byName.get(name)?.facts === facts);
    return sameObjects && this.compare(later).all.length === 0;
  }

  /** What is different in `later`, one change a parameter. */
  compare(later: ParameterSnapshot): ParameterChanges {
    const changes: ParameterChange[] = [];
    const missing = new Map<ParameterFacts, string>();
    for (const [name, before] of this.byName) {
      const after = later.byName.get(name);
      if (after === undefined) missing.set(before.facts, name);
      else changes.push(...factChanges(name, before, after));
    }
    for (const [name, { facts }] of later.byName) {
      if (this.byName.has(name)) continue;
      const from = missing.get(facts);
      if (from === undefined) changes.push({ kind: 'added', name });
      else {
        missing.delete(facts);
        changes.push({ kind: 'renamed', name: from, to: name }, ...factChanges(name, this.byName.get(from)!, later.byName.get(name)!));
      }
    }
    for (const name of missing.values()) changes.push({ kind: 'dropped', name });
    return new ParameterChanges(changes);
  }
}

export type ParameterChange =
  | { readonly kind: 'added' | 'dropped'; readonly name: string }
  | { readonly kind: 'renamed'; readonly name: string; readonly to: string }
  | { readonly kind: 'retyped' | 'reshaped'; readonly name: string; readonly before: string; readonly after: string };

export class ParameterChanges {
  readonly all: readonly ParameterChange[];

  constructor(all: readonly ParameterChange[]) {
    this.all = all;
  }

  get renames(): { from: string; to: string }[] {
    return this.all.flatMap((change) => (change.kind === 'renamed' ? [{ from: change.name, to: change.to }] : []));
  }

  except(kind: ParameterChange['kind']): ParameterChange[] {
    return this.all.filter((change) => change.kind !== kind);
  }
}

/** `"w" was retyped from float32 to float16`. */
export function changeText(change: ParameterChange): string {
  if (change.kind === 'renamed') return `"${change.name}" was renamed to "${change.to}"`;
  if (change.kind === 'retyped' || change.kind === 'reshaped')
    return `"${change.name}" was ${change.kind} from ${change.before} to ${change.after}`;
  return `"${change.name}" was ${change.kind}`;
}

function factChanges(name: string, before: Seen, after: Seen): ParameterChange[] {
  const changes: ParameterChange[] = [];
  if (before.dtype !== after.dtype) changes.push({ kind: 'retyped', name, before: before.dtype, after: after.dtype });
  const [was, is] = [before.shape, after.shape].map((shape) => `[${shape.join(', ')}]`) as [string, string];
  if (was !== is) changes.push({ kind: 'reshaped', name, before: was, after: is });
  return changes;
}
