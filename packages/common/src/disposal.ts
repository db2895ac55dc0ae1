import { GraftError } from './errors.ts';

/** A disposed object is used. */
export class DisposedError extends GraftError {
  constructor(what: string) {
    super({ code: 'GRAFT_DISPOSED', what: `${what} was disposed.`, fix: 'dispose its owner later.' });
  }
}

/** A stack of resources, disposed in reverse order. Node 20 lacks `DisposableStack`; this is the part of it that Graft needs. */
export class Disposables implements Disposable {
  private stack: (() => void)[] | null = [];

  get disposed(): boolean {
    return this.stack === null;
  }

  /** Takes ownership of `resource` and returns it. */
  use<R extends Disposable>(resource: R): R {
    this.defer(() => resource[Symbol.dispose]());
    return resource;
  }

  defer(release: () => void): void {
    if (this.stack === null) throw new DisposedError('The owner of this resource');
    this.stack.push(release);
  }

  /** Moves everything to a new stack, at the end of a constructor that succeeds. */
  move(): Disposables {
    const moved = new Disposables();
    moved.stack = this.stack;
    this.stack = null;
    return moved;
  }

  /** Releases everything, then throws the first error. May be called twice. */
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
