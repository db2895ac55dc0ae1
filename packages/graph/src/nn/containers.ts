import { Module } from './module.ts';

/** A list of modules, which are its properties 0, 1, ... */
export class ModuleList<M extends Module = Module> extends Module implements Iterable<M> {
  readonly [index: number]: M;
  readonly length: number;

  constructor(items: Iterable<M> = []) {
    super();
    const list = [...items];
    Object.assign(this, list);
    this.length = list.length;
  }

  *[Symbol.iterator](): IterableIterator<M> {
    for (let i = 0; i < this.length; i++) yield this[i]!;
  }
}

/** Returns its input. Takes the place of a missing layer, so all hosts look alike to a guard. */
export class Identity extends Module {
  forward<T>(x: T): T {
    return x;
  }
}
