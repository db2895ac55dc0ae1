import type { BpeModel } from './tokenizer-json.ts';

/** Keeps a rank and a place in one number; both stay exact. */
const places = 2 ** 31;
/** Longer words rarely come again. */
const longestCached = 64;
const mostCached = 10_000;

/**
 * Byte-pair encoding: merges the neighbours of the lowest rank, of equal ones the leftmost. Not the library's: it takes seconds for a word of 50,000 characters, and
 * knows no scores.
 */
export class BytePairs {
  private readonly ids: ReadonlyMap<string, number>;
  private readonly rankOf: (left: number, right: number) => number | undefined;
  /** The id that a merge makes, by rank; for scores, see `rankOf`. */
  private readonly made: (left: number, right: number, rank: number) => number;
  private readonly cache = new Map<string, readonly number[]>();

  constructor(model: BpeModel, ids: ReadonlyMap<string, number>) {
    this.ids = ids;
    [this.rankOf, this.made] = model.scores === undefined ? byMerges(model.merges, ids) : byScores(model.scores, ids);
  }

  /** The ids of a word's pieces. A character without an id stands alone, as the complement (`~`) of its code point. */
  cut(word: string): readonly number[] {
    const known = this.cache.get(word);
    if (known !== undefined) return known;
    const ids = this.merge(Array.from(word, (character) => this.ids.get(character) ?? ~character.codePointAt(0)!));
    if (word.length <= longestCached) {
      if (this.cache.size >= mostCached) this.cache.clear();
      this.cache.set(word, ids);
    }
    return ids;
  }

  private merge(ids: number[]): number[] {
    const count = ids.length;
    const next = Int32Array.from(ids, (_, place) => place + 1);
    const previous = Int32Array.from(ids, (_, place) => place - 1);
    const isGone = new Uint8Array(count);
    const waiting: number[] = [];
    const offer = (left: number): void => {
      if (left < 0 || next[left]! >= count) return;
      const rank = this.rankOf(ids[left]!, ids[next[left]!]!);
      if (rank !== undefined) push(waiting, rank * places + left);
    };
    for (let place = 0; place < count; place++) offer(place);
    while (waiting.length > 0) {
      const least = pop(waiting);
      const left = least % places;
      const rank = Math.floor(least / places);
      const right = next[left]!;
      // The pair may have been merged with others since.
      if (isGone[left] === 1 || right >= count || this.rankOf(ids[left]!, ids[right]!) !== rank) continue;
      ids[left] = this.made(ids[left]!, ids[right]!, rank);
      isGone[right] = 1;
      next[left] = next[right]!;
      if (next[left]! < count) previous[next[left]!] = left;
      offer(previous[left]!);
      offer(left);
    }
    return ids.filter((_, place) => isGone[place] === 0);
  }
}

type Ranks = [rankOf: (left: number, right: number) => number | undefined, made: (left: number, right: number, rank: number) => number];

/** Both ids in one number. */
const pairOf = (left: number, right: number): number => left * 2 ** 24 + right;

function byMerges(merges: BpeModel['merges'], ids: ReadonlyMap<string, number>): Ranks {
  const ranks = new Map<number, number>();
  const made = new Int32Array(merges.length);
  for (const [rank, merge] of merges.entries()) {
    const space = typeof merge === 'string' ? merge.indexOf(' ', 1) : 0;
    const [left, right] = typeof merge === 'string' ? [merge.slice(0, space), merge.slice(space + 1)] : merge;
    const [leftId, rightId, id] = [ids.get(left), ids.get(right), ids.get(left + right)];
    if (leftId === undefined || rightId === undefined || id === undefined) continue;
    made[rank] = id;
    ranks.set(pairOf(leftId, rightId), rank);
  }
  const rankOf = (left: number, right: number) => (left < 0 || right < 0 ? undefined : ranks.get(pairOf(left, right)));
  return [rankOf, (_left, _right, rank) => made[rank]!];
}

/** SentencePiece ranks a merge by the score of its result. */
function byScores(scores: ReadonlyMap<string, number>, ids: ReadonlyMap<string, number>): Ranks {
  const rankOfScore = new Map([...new Set(scores.values())].sort((a, b) => b - a).map((score, rank) => [score, rank]));
  const names: string[] = [];
  for (const [name, id] of ids) names[id] = name;
  const nameOf = (id: number): string => (id < 0 ? String.fromCodePoint(~id) : names[id]!);
  const rankOf = (left: number, right: number) => {
    const score = scores.get(nameOf(left) + nameOf(right));
    return score === undefined ? undefined : rankOfScore.get(score);
  };
  return [rankOf, (left, right) => ids.get(nameOf(left) + nameOf(right))!];
}

/** Adds to a binary heap whose first entry is the least. */
function push(heap: number[], value: number): void {
  let place = heap.length;
  while (place > 0) {
    const parent = (place - 1) >> 1;
    if (heap[parent]! <= value) break;
    heap[place] = heap[parent]!;
    place = parent;
  }
  heap[place] = value;
}

/** Takes the least entry. */
function pop(heap: number[]): number {
  const least = heap[0]!;
  const value = heap.pop()!;
  if (heap.length === 0) return least;
  let place = 0;
  for (let child = 1; child < heap.length; child = 2 * place + 1) {
    if (child + 1 < heap.length && heap[child + 1]! < heap[child]!) child++;
    if (heap[child]! >= value) break;
    heap[place] = heap[child]!;
    place = child;
  }
  heap[place] = value;
  return least;
}
