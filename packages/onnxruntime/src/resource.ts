import { DisposedError } from '@graft/common';

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
