export interface StopStringResult {
  /** Text that can no longer be part of a stop string. */
  emit: string;
  /** The stop string that was found. It and the text after it are never emitted. */
  matched: string | null;
}

/** A state of the automaton: the longest beginning of a stop string that the text ends with. */
interface State {
  /** Characters of the text that may be the beginning of a stop string. */
  depth: number;
  next: Map<string, State>;
  /** The state of the longest shorter suffix that also begins a stop string. */
  fallback: State | null;
  /** The longest stop string that ends here. */
  matched: string | null;
}

/**
 * Watches a streamed text for stop strings. A possible beginning of one is held back, so no part of a stop string leaks. The first complete one wins, as if the
 * text arrived character by character; of several that end in the same place, the longest. The cost is one step per character (Aho and Corasick, 1975).
 */
export class StopStrings {
  private readonly root: State;
  private state: State;
  private held = '';
  private matched: string | null = null;

  /** @param stopStrings not empty strings; `SamplingParams` checks that. */
  constructor(stopStrings: readonly string[]) {
    this.root = buildStates(stopStrings);
    this.state = this.root;
  }

  push(text: string): StopStringResult {
    if (this.matched !== null) return { emit: '', matched: this.matched };
    const all = this.held + text;
    for (let i = this.held.length; i < all.length; i++) {
      this.state = advance(this.state, all[i]!);
      if (this.state.matched === null) continue;
      this.matched = this.state.matched;
      this.held = '';
      return { emit: all.slice(0, i + 1 - this.matched.length), matched: this.matched };
    }
    const certain = all.length - this.state.depth;
    this.held = all.slice(certain);
    return { emit: all.slice(0, certain), matched: null };
  }

  /** The held text, when no more text follows. */
  flush(): string {
    const rest = this.held;
    this.held = '';
    this.state = this.root;
    return rest;
  }
}

function advance(state: State, character: string): State {
  for (let from: State | null = state; from !== null; from = from.fallback) {
    const to = from.next.get(character);
    if (to !== undefined) return to;
    if (from.fallback === null) return from;
  }
  return state;
}

function buildStates(stopStrings: readonly string[]): State {
  const root: State = { depth: 0, next: new Map(), fallback: null, matched: null };
  for (const stopString of stopStrings) addBranch(root, stopString);
  // Breadth first: a fallback is always shorter, so it is complete before it is needed.
  const queue = [...root.next.values()];
  for (const state of queue) {
    state.fallback ??= root;
    for (const [character, child] of state.next) {
      child.fallback = advance(state.fallback, character);
      child.matched ??= child.fallback.matched;
      queue.push(child);
    }
  }
  return root;
}

function addBranch(root: State, stopString: string): void {
  let state = root;
  for (let i = 0; i < stopString.length; i++) {
    let child = state.next.get(stopString[i]!);
    if (child === undefined) {
      child = { depth: i + 1, next: new Map(), fallback: null, matched: null };
      state.next.set(stopString[i]!, child);
    }
    state = child;
  }
  state.matched = stopString;
}
