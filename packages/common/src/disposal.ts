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

/**
 * A native object or native memory with one owner and any number of users. After the owner's `dispose` nobody can start to use it. The native part is freed
 * when the last user (a value over the memory, a binding, a session, a run) releases it, so that no order of disposal leaves a dangling pointer.
 */
export abstract class NativeResource implements Disposable {
  private users = 0;
  private ownerGone = false;
  private freed = false;

  /** Whether the native part is freed. */
  get released(): boolean {
    return this.freed;
  }

  /** Keeps the native part alive until `release`. @internal */
  retain(): this {
    this.assertUsable();
    this.users += 1;
    return this;
  }

  /** @internal */
  release(): void {
    this.users -= 1;
    this.freeWhenUnused();
  }

  [Symbol.dispose](): void {
    this.ownerGone = true;
    this.freeWhenUnused();
  }

  /** @internal */
  assertUsable(): void {
    if (this.ownerGone) throw new DisposedError(this.describe());
  }

  /** The subject of an error message, for example `The session`. */
  protected abstract describe(): string;
  protected abstract free(): void;

  private freeWhenUnused(): void {
    if (!this.ownerGone || this.users > 0 || this.freed) return;
    this.freed = true;
    this.free();
  }
}
