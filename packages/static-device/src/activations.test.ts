import { expect, test } from 'vitest';
import { layOut } from './activations.ts';
import type { BucketPlan, Call, Source } from './bucket-plan.ts';

/** Calls that read and write values by index, -1 being the step's input; each tensor has `floats` elements. */
function planOf(
  steps: readonly { reads: number[]; writes: number[] }[],
  outputs: readonly number[],
  floats: (index: number) => number,
): BucketPlan {
  const count = Math.max(...steps.flatMap(({ writes }) => writes)) + 1;
  const sourceOf = (index: number): Source => (index < 0 ? { from: 'input', name: 'x' } : { from: 'value', index });
  const call = ({ reads, writes }: { reads: number[]; writes: number[] }): Call => ({
    graph: '0'.repeat(64),
    label: 'layer',
    reads: reads.map((index) => ({ tensor: `t${index}`, source: sourceOf(index) })),
    writes: writes.map((index) => ({ tensor: `t${index}`, target: { to: 'value', index } })),
  });
  return {
    inputs: [{ name: 'x', dtype: 'float32', dims: [floats(-1)] }],
    values: Array.from({ length: count }, (_, index) => ({ dtype: 'float32' as const, dims: [floats(index)] })),
    weights: [],
    caches: [],
    batch: null,
    groups: [],
    calls: steps.map(call),
    outputs: outputs.map((index) => ({ name: `y${index}`, index })),
  };
}

/** A residual stream: each layer reads what the one before gave, and gives two tensors. */
const layers = (count: number) =>
  Array.from({ length: count }, (_, i) => ({ reads: i === 0 ? [-1] : [2 * i - 2, 2 * i - 1], writes: [2 * i, 2 * i + 1] }));

test('memory is used again: fifty layers take as much as three', () => {
  const bytes = (count: number): number => layOut(planOf(layers(count), [2 * count - 1], () => 100)).bytes;
  expect(bytes(50)).toBe(bytes(3));
  expect(bytes(50)).toBeLessThan(5 * 448); // 400 bytes at multiples of 64: two read, two written, and a gap at most
});

test('what lives at the same time never overlaps, whatever the sizes, and outputs live to the end', () => {
  let state = 7;
  const random = (below: number): number => {
    state = (Math.imul(state, 1103515245) + 12345) & 0x7fffffff;
    return (state >> 8) % below;
  };
  for (let round = 0; round < 200; round++) {
    const count = 2 + random(8);
    const steps = Array.from({ length: count }, (_, i) => ({
      reads: i === 0 ? [-1] : [random(2 * i + 1) - 1, 2 * i - 1],
      writes: [2 * i, 2 * i + 1],
    }));
    const outputs = [2 * count - 1, random(2 * count)];
    const sizes = Array.from({ length: 2 * count + 1 }, () => 1 + random(300));
    const layout = layOut(planOf(steps, outputs, (index) => sizes[index + 1]!));
    const tensors = Array.from({ length: 2 * count + 1 }, (_, i) => {
      const index = i - 1;
      const uses = steps.flatMap(({ reads, writes }, step) => ([...reads, ...writes].includes(index) ? [step] : []));
      const start = index < 0 ? layout.inputs.get('x')! : layout.values[index]!;
      const first = index < 0 ? -1 : Math.min(...uses);
      return { start, end: start + 4 * sizes[i]!, first, last: outputs.includes(index) ? count : Math.max(...uses) };
    });
    for (const [i, a] of tensors.entries()) {
      expect(a.start % 64).toBe(0);
      expect(a.end).toBeLessThanOrEqual(layout.bytes);
      for (const b of tensors.slice(i + 1)) {
        const isTogether = a.first <= b.last && b.first <= a.last;
        if (isTogether) expect(a.end <= b.start || b.end <= a.start).toBe(true);
      }
    }
  }
});
