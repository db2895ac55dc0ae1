import type { HostTensor } from '@graft/graph';
import { firstPosition, type KvGroup } from '../kv-cache.ts';
import type { RunResult, RunRow, RunStep } from './model-runner.ts';

/** A row that may be padded to a static shape. */
export interface StepRow extends RunRow {
  /** Tokens of padding after the real ones. Their results are not read; the sequence later overwrites their keys and values in the cache. */
  readonly padding?: number;
}

export interface StepTensors extends Pick<RunStep, 'logits' | 'imageFeatures'> {
  readonly rows: readonly StepRow[];
}

/** The inputs of a step's program by name: tokens and positions, and each KV group's part of the attention metadata. */
export function stepTensors({ rows, logits, imageFeatures }: StepTensors, groups: readonly KvGroup[]): Record<string, HostTensor> {
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

/** The parts, one after the other. */
export function joined(parts: readonly Float32Array[]): Float32Array {
  const all = new Float32Array(parts.reduce((sum, { length }) => sum + length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  return all;
}

const lengthOf = ({ tokenIds, padding = 0 }: StepRow): number => tokenIds.length + padding;

/** Padding has the position of the last real token, which the model's tables contain. */
function tokenInputs(rows: readonly StepRow[]): Record<string, HostTensor> {
  const length = lengthOf(rows[0]!);
  const inputIds = new BigInt64Array(rows.length * length);
  const positions = new BigInt64Array(rows.length * length);
  for (const [r, { tokenIds, computed }] of rows.entries()) {
    for (let i = 0; i < length; i++) {
      inputIds[r * length + i] = BigInt(tokenIds[i] ?? 0);
      positions[r * length + i] = BigInt(computed + Math.min(i, tokenIds.length - 1));
    }
  }
  const dims = [rows.length, length];
  return { inputIds: { dtype: 'int64', dims, data: inputIds }, positions: { dtype: 'int64', dims, data: positions } };
}

function imageRowsOf(rows: readonly StepRow[]): HostTensor {
  const length = lengthOf(rows[0]!);
  const data = BigInt64Array.from(rows.flatMap(({ imageRows }) => Array.from({ length }, (_, i) => BigInt(imageRows?.[i] ?? -1))));
  return { dtype: 'int64', dims: [rows.length, length], data };
}

function logitsIndices(rows: readonly StepRow[], which: 'last' | 'all'): HostTensor {
  const length = lengthOf(rows[0]!);
  const last = rows.map(({ tokenIds }, row) => row * length + tokenIds.length - 1);
  const indices = which === 'last' ? last : Array.from({ length: rows.length * length }, (_, i) => i);
  return { dtype: 'int64', dims: [indices.length], data: BigInt64Array.from(indices, BigInt) };
}

/** Counts from the position of the cache's first row. Padding counts too: it is written to the cache, after the real tokens. */
function groupInputs(group: KvGroup, rows: readonly StepRow[]): Record<string, HostTensor> {
  const { name } = group;
  const queryStart = Int32Array.from(rows, ({ computed }) => computed - firstPosition(group, computed));
  const sequenceLengths = queryStart.map((start, i) => start + lengthOf(rows[i]!));
  const dims = [rows.length];
  return {
    [`${name}.queryStart`]: { dtype: 'int32', dims, data: queryStart },
    [`${name}.sequenceLengths`]: { dtype: 'int32', dims, data: sequenceLengths },
    [`${name}.totalLength`]: { dtype: 'int32', dims: [], data: Int32Array.of(Math.max(...sequenceLengths)) },
  };
}
