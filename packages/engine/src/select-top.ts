/**
 * Moves the largest entries of `ids[0, count)` to the front, unsorted, until there are `keep` of them or their weights reach `mass`, whichever comes first. Of equal
 * weights the smaller id wins, so the result does not depend on the given order. Expected time is linear in `count` (a quickselect).
 * @param ids token ids, reordered in place.
 * @param weights `weights[i]` belongs to `ids[i]`; reordered with it.
 * @returns the number of kept entries, at least 1 if `count` is.
 */
export function selectTop(ids: Int32Array, weights: Float64Array, count: number, keep: number, mass: number): number {
  let low = 0;
  let high = count;
  let massBefore = 0;
  // All of [0, low) is kept, nothing from `high` on.
  while (high - low > 1) {
    const split = partition(ids, weights, low, high);
    let massOfUpper = massBefore;
    for (let i = low; i < split; i++) massOfUpper += weights[i]!;
    if (split >= keep || massOfUpper >= mass) {
      high = split;
    } else {
      low = split;
      massBefore = massOfUpper;
    }
  }
  return high;
}

/** Splits `[low, high)` into larger and smaller entries, neither part empty. @returns the start of the second part. */
function partition(ids: Int32Array, weights: Float64Array, low: number, high: number): number {
  const pivot = medianOfThree(ids, weights, low, (low + high) >>> 1, high - 1);
  const pivotWeight = weights[pivot]!;
  const pivotId = ids[pivot]!;
  let i = low - 1;
  let j = high;
  for (;;) {
    do i++;
    while (weights[i]! > pivotWeight || (weights[i]! === pivotWeight && ids[i]! < pivotId));
    do j--;
    while (weights[j]! < pivotWeight || (weights[j]! === pivotWeight && ids[j]! > pivotId));
    if (i >= j) return j + 1 < high ? j + 1 : j;
    swap(ids, weights, i, j);
  }
}

/** The index of the middle one of three. It is never the smallest, so a Hoare partition leaves entries on both sides. */
function medianOfThree(ids: Int32Array, weights: Float64Array, a: number, b: number, c: number): number {
  const before = (x: number, y: number): boolean => weights[x]! > weights[y]! || (weights[x]! === weights[y]! && ids[x]! < ids[y]!);
  if (before(a, b)) {
    if (before(b, c)) return b;
    return before(a, c) ? c : a;
  }
  if (before(a, c)) return a;
  return before(b, c) ? c : b;
}

function swap(ids: Int32Array, weights: Float64Array, i: number, j: number): void {
  const id = ids[i]!;
  const weight = weights[i]!;
  ids[i] = ids[j]!;
  weights[i] = weights[j]!;
  ids[j] = id;
  weights[j] = weight;
}
