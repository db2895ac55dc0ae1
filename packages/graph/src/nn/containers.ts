import { Module } from './module.ts';

/** A list of modules; its children are named 0, 1, ... */
export class ModuleList<M extends Module = Module> extends Module implements Iterable<M> {
  readonly items: M[];

  constructor(items: Iterable<M> = []) {
    super();
    this.items = [...items];
  }

  get length(): number {
    return this.items.length;
  }

  /** @returns the module at `index`, or undefined past the end. */
  at(index: number): M | undefined {
    return this.items[index];
  }

  [Symbol.iterator](): IterableIterator<M> {
    return this.items[Symbol.iterator]();
  }

  override *namedChildren(): IterableIterator<[string, Module]> {
    for (const [index, item] of this.items.entries()) yield [String(index), item];
  }
}

/** Gives back what it gets: takes the place of a layer that is not there, so that all hosts look alike to a guard. */
export class Identity extends Module {
  forward<T>(x: T): T {
    return x;
  }
}
