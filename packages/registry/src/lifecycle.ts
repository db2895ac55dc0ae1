import { LifecycleError } from './model-errors.ts';

export type LifecycleState = 'constructed' | 'initialized' | 'loaded' | 'ready' | 'reloading' | 'failed';

const statesBefore = {
  initialized: ['constructed'],
  loaded: ['initialized'],
  ready: ['loaded', 'reloading'],
  reloading: ['ready'],
} as const;

/**
 * constructed -> initialized -> loaded -> ready, in this order. At `ready` the model may no longer be changed, but by a reload of its weights
 * (ready -> reloading -> ready).
 */
export class Lifecycle {
  private current: LifecycleState = 'constructed';
  private failure: string | undefined;

  get state(): LifecycleState {
    return this.current;
  }

  /** Why the model is `failed`. */
  get reason(): string | undefined {
    return this.failure;
  }

  /** @throws LifecycleError, which names the state and the call. */
  require(call: string, ...allowed: readonly LifecycleState[]): void {
    if (!allowed.includes(this.current)) throw new LifecycleError({ state: this.current, call, allowed, reason: this.failure });
  }

  /**
   * Goes one state on.
   * @throws LifecycleError when `state` does not follow the present one.
   */
  advance(state: keyof typeof statesBefore, call = `advance('${state}')`): void {
    this.require(call, ...statesBefore[state]);
    this.current = state;
  }

  /** The model is neither what it was nor what it should be, and cannot be used. */
  fail(reason: string): void {
    this.current = 'failed';
    this.failure = reason;
  }
}
