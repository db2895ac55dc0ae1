import { iterate, JinjaError, Undefined, type Value } from './values.ts';

/** The variables of a block; those of the blocks around it are read through it. */
export class Scope {
  private readonly variables = new Map<string, Value>();
  private readonly parent: Scope | null;

  constructor(parent: Scope | null) {
    this.parent = parent;
  }

  get(name: string): Value {
    return this.variables.get(name) ?? this.inherited(name);
  }

  set(name: string, value: Value): void {
    this.variables.set(name, value);
  }

  private inherited(name: string): Value {
    if (this.variables.has(name)) return null;
    return this.parent === null ? new Undefined(`'${name}' is undefined`) : this.parent.get(name);
  }
}

export type Assign = (scope: Scope, value: Value) => void;

export const unpack =
  (targets: readonly Assign[]): Assign =>
  (scope, value) => {
    const items = iterate(value);
    if (items.length !== targets.length) throw new JinjaError(`cannot unpack ${items.length} values into ${targets.length} names`);
    for (const [index, assign] of targets.entries()) assign(scope, items[index]!);
  };
