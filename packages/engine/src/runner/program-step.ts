import type { HostTensor } from '@graft/graph';
import type { KvGroup } from '../kv-cache.ts';
import type { RunResult, RunRow, RunStep } from './model-runner.ts';

/** The inputs of a step's program by name: tokens and positions, and each KV group's part of the attention metadata. */
export function stepTensors({ rows, logits, imageFeatures }: RunStep, groups: readonly KvGroup[]): Record<string, HostTensor> {
  const inputs: Record<string, HostTensor> = { ...tokenInputs(rows), logitsIndices: logitsIndices(rows, logits) };
  if (imageFeatures !== undefined) Object.assign(inputs, { imageFeatures, imageRows: imageRowsOf(rows) });
  for (const group of groups) Object.assign(inputs, groupInputs(group, rows));
  return inputs;
}

export function runResult(outputs: Readonly<Record<string, HostTensor>>): RunResult {
  const result = outputs['logits']!;
  const auxHiddenStates: Float32Array[] = [];
  for (let i = 0; ; i++) {
    const state = outputs[`auxHiddenStates.${i}`];
    if (state === undefined) break;
    auxHiddenStates.push(state.data as Float32Array);
  }
  return { vocabSize: result.dims[1]!, logits: result.data as Float32Array, auxHiddenStates };
}

function tokenInputs(rows: readonly RunRow[]): Record<string, HostTensor> {
  const length = rows[0]!.tokenIds.length;
  const inputIds = new BigInt64Array(rows.length * length);
  const positions = new BigInt64Array(rows.length * length);
  for (const [r, { tokenIds, computed }] of rows.entries()) {
    for (let i = 0; i < length; i++) {
      inputIds[r * length + i] = BigInt(tokenIds[i]!);
      positions[r * length + i] = BigInt(computed + i);
    }
  }
  const dims = [rows.length, length];
  return { inputIds: { dtype: 'int64', dims, data: inputIds }, positions: { dtype: 'int64', dims, data: positions } };
}

function imageRowsOf(rows: readonly RunRow[]): HostTensor {
  const data = BigInt64Array.from(rows.flatMap(({ tokenIds, imageRows }) => tokenIds.map((_, i) => BigInt(imageRows?.[i] ?? -1))));
  return { dtype: 'int64', dims: [rows.length, rows[0]!.tokenIds.length], data };
}

function logitsIndices(rows: readonly RunRow[], which: 'last' | 'all'): HostTensor {
  const length = rows[0]!.tokenIds.length;
  const count = which === 'all' ? rows.length * length : rows.length;
  const data = BigInt64Array.from({ length: count }, (_, i) => BigInt(which === 'all' ? i : i * length + length - 1));
  return { dtype: 'int64', dims: [count], data };
}

/** A chunked group counts from the start of the chunk that the row is in. */
function groupInputs({ name, chunkSize }: KvGroup, rows: readonly RunRow[]): Record<string, HostTensor> {
  const queryStart = Int32Array.from(rows, ({ computed }) => (chunkSize === null ? computed : computed % chunkSize));
  const sequenceLengths = queryStart.map((start, i) => start + rows[i]!.tokenIds.length);
  const dims = [rows.length];
  return {
    [`${name}.queryStart`]: { dtype: 'int32', dims, data: queryStart },
    [`${name}.sequenceLengths`]: { dtype: 'int32', dims, data: sequenceLengths },
    [`${name}.totalLength`]: { dtype: 'int32', dims: [], data: Int32Array.of(Math.max(...sequenceLengths)) },
  };
}
