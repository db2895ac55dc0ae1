import { GraftError } from './errors.ts';

/** Something that was disposed is used again. */
export class DisposedError extends GraftError {
  constructor(what: string) {
    super({ code: 'GRAFT_DISPOSED', what: `${what} was disposed.`, fix: 'keep its owner alive for as long as it is used.' });
  }
}

/** A stack of resources, disposed last in first out. Node 20 lacks `DisposableStack`; this is the part of it that Graft needs. */
export class Disposables implements Disposable {
  private stack: (() => void)[] | null = [];

  get disposed(): boolean {
    return this.stack === null;
  }

  /** Takes ownership of `resource` and gives it back. */
  use<R extends Disposable>(resource: R): R {
    this.defer(() => resource[Symbol.dispose]());
    return resource;
  }

  defer(release: () => void): void {
    if (this.stack === null) throw new DisposedError('The owner of this resource');
    this.stack.push(release);
  }

  /** Hands everything over to the result, for a constructor that has succeeded. */
  move(): Disposables {
    const moved = new Disposables();
    moved.stack = this.stack;
    this.stack = null;
    return moved;
  }

  /** Releases all, even when one throws; the first error is thrown at the end. Twice without harm. */
  [Symbol.dispose](): void {
    const stack = this.stack ?? [];
    this.stack = null;
    const errors: unknown[] = [];
    for (const release of stack.reverse()) {
      try {
        release();
      } catch (error) {
        errors.push(error);
      }
    }
    if (errors.length > 0) throw errors[0];
  }
}
