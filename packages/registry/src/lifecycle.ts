import { LifecycleError } from './model-errors.ts';

export type LifecycleState = 'constructed' | 'initialized' | 'loaded' | 'ready' | 'failed';

const nextState = { constructed: 'initialized', initialized: 'loaded', loaded: 'ready' } as const;

/** constructed -> initialized -> loaded -> ready, each once, in this order. At `ready` the model may no longer be changed. */
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
  advance(state: 'initialized' | 'loaded' | 'ready', call = `advance('${state}')`): void {
    const before = (Object.keys(nextState) as (keyof typeof nextState)[]).find((key) => nextState[key] === state)!;
    this.require(call, before);
    this.current = state;
  }

  /** The model is neither what it was nor what it should be, and cannot be used. */
  fail(reason: string): void {
    this.current = 'failed';
    this.failure = reason;
  }
}
