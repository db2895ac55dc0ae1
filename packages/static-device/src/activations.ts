import { tensorBytes } from '@graft/onnx-export';
import type { BucketPlan } from './bucket-plan.ts';

/** Bytes of a cache line, to which tensors are aligned. */
const line = 64;

interface Lifetime {
  readonly bytes: number;
  /** The first and the last call that use the memory. */
  readonly from: number;
  to: number;
}

/** The byte offset of each input and value of a step in one memory of `bytes` bytes. */
export interface ActivationLayout {
  readonly inputs: ReadonlyMap<string, number>;
  readonly values: readonly number[];
  readonly bytes: number;
}

/**
 * Lays out the activations of a step. A tensor gets the lowest offset that no other living tensor uses. The reads and the writes of a call live at the same
 * time, and the outputs of a step live until its end.
 */
export function layOut({ inputs, values, calls, outputs }: BucketPlan): ActivationLayout {
  const ofInputs = new Map(
    inputs.map(({ name, dtype, dims }): [string, Lifetime] => [name, { bytes: tensorBytes(dtype, dims), from: -1, to: -1 }]),
  );
  const ofValues: Lifetime[] = values.map(({ dtype, dims }, index) => {
    const made = calls.findIndex(({ writes }) => writes.some(({ target }) => target.to === 'value' && target.index === index));
    return { bytes: tensorBytes(dtype, dims), from: made, to: made };
  });
  for (const [i, { reads }] of calls.entries()) {
    for (const { source } of reads) {
      if (source.from === 'input') ofInputs.get(source.name)!.to = i;
      if (source.from === 'value') ofValues[source.index]!.to = i;
    }
  }
  for (const { index } of outputs) ofValues[index]!.to = calls.length;
  const places = new Map<Lifetime, number>();
  let bytes = 0;
  for (const lifetime of [...ofInputs.values(), ...ofValues].sort((a, b) => a.from - b.from)) {
    const offset = lowestPlace(lifetime, places);
    places.set(lifetime, offset);
    bytes = Math.max(bytes, offset + lifetime.bytes);
  }
  return {
    inputs: new Map([...ofInputs].map(([name, lifetime]) => [name, places.get(lifetime)!])),
    values: ofValues.map((lifetime) => places.get(lifetime)!),
    bytes,
  };
}

function lowestPlace(wanted: Lifetime, places: ReadonlyMap<Lifetime, number>): number {
  const taken = [...places].filter(([other]) => other.from <= wanted.to && wanted.from <= other.to).sort(([, a], [, b]) => a - b);
  let offset = 0;
  for (const [other, start] of taken) {
    if (offset + wanted.bytes <= start) break;
    offset = Math.max(offset, Math.ceil((start + other.bytes) / line) * line);
  }
  return offset;
}
