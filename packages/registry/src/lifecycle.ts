import { LifecycleError } from './model-errors.ts';

export type LifecycleState = 'constructed' | 'initialized' | 'loaded' | 'ready' | 'reloading' | 'failed';

const statesBefore = {
  initialized: ['constructed'],
  loaded: ['initialized'],
  ready: ['loaded', 'reloading'],
  reloading: ['ready'],
} as const;

/** constructed -> initialized -> loaded -> ready. At `ready` only a reload of the weights may change the model: ready -> reloading -> ready. */
export class Lifecycle {
  private current: LifecycleState = 'constructed';
  private failure: string | undefined;

  get state(): LifecycleState {
    return this.current;
  }

  require(call: string, ...allowed: readonly LifecycleState[]): void {
    if (!allowed.includes(this.current)) throw new LifecycleError(this.current, call, allowed, this.failure);
  }

  /** @throws LifecycleError when `state` does not follow the present one. */
  advance(state: keyof typeof statesBefore, call = `advance('${state}')`): void {
    this.require(call, ...statesBefore[state]);
    this.current = state;
  }

  /** A failed phase could not be undone: the model cannot be used. */
  fail(reason: string): void {
    this.current = 'failed';
    this.failure = reason;
  }
}
