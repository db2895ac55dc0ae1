import { DisposedError } from '@graft/common';

/**
 * A native object or native memory with one owner and any number of users.
 * The owner's `dispose` ends its use at once; the native part is freed when the last user (a value over the memory, a binding, a
 * session, a run in flight) lets go. So no order of disposal can leave native code with a dangling pointer.
 */
export abstract class NativeResource implements Disposable {
  private users = 0;
  private ownerGone = false;
  private freed = false;

  get disposed(): boolean {
    return this.ownerGone;
  }

  /** True when the native part is gone too. */
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

  /** How an error calls it, for example `The value "x"`. */
  protected abstract describe(): string;
  protected abstract free(): void;

  private freeWhenUnused(): void {
    if (!this.ownerGone || this.users > 0 || this.freed) return;
    this.freed = true;
    this.free();
  }
}
