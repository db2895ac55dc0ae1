import type { HostTensor, Program } from '@graft/graph';
import type { KvCachePlan, KvGroup } from '../kv-cache.ts';

/** Tokens of one sequence that are computed in a run. */
export interface RunRow {
  readonly tokenIds: readonly number[];
  /** Tokens of the sequence that are in the cache already. */
  readonly computed: number;
  /** In a step with images, for each token the row of `imageFeatures` that stands in its place; -1, and where this is left out: the token itself. */
  readonly imageRows?: readonly number[];
}

export interface RunStep {
  readonly firstPlace: number;
  /** Row i uses place `firstPlace + i`; all rows have as many tokens. */
  readonly rows: readonly RunRow[];
  /** `last`: of each row's last token; `all`: of every token, row by row. */
  readonly logits: 'last' | 'all';
  /** `[rows, hidden]`: for a program of `captureMultimodalModel`, which needs it in each step, with no rows where there is no image. */
  readonly imageFeatures?: HostTensor;
  readonly signal?: AbortSignal;
}

/** Valid until the next run. */
export interface RunResult {
  readonly vocabSize: number;
  /** `[outputRows, vocabSize]` */
  readonly logits: Float32Array;
  /** Each `[batch, sequence, hidden]`, in the order of the layers that were asked for. */
  readonly auxHiddenStates: readonly Float32Array[];
}

/** Turns rows of tokens into the inputs of a program: positions, and each KV group's part of the attention metadata. */
export class ModelRunner {
  private readonly program: Program;
  private readonly groups: readonly KvGroup[];

  constructor(program: Program, plan: KvCachePlan) {
    this.program = program;
    this.groups = plan.groups;
  }

  async run({ firstPlace, rows, logits, imageFeatures, signal }: RunStep): Promise<RunResult> {
    const inputs: Record<string, HostTensor> = { ...tokenInputs(rows), logitsIndices: logitsIndices(rows, logits) };
    if (imageFeatures !== undefined) Object.assign(inputs, { imageFeatures, imageRows: imageRowsOf(rows) });
    for (const group of this.groups) Object.assign(inputs, groupInputs(group, rows));
    const outputs = await this.program.run({ firstPlace, batch: rows.length, inputs, ...(signal !== undefined && { signal }) });
    const result = outputs['logits']!;
    const auxHiddenStates: Float32Array[] = [];
    for (let i = 0; ; i++) {
      const state = outputs[`auxHiddenStates.${i}`];
      if (state === undefined) break;
      auxHiddenStates.push(state.data as Float32Array);
    }
    return { vocabSize: result.dims[1]!, logits: result.data as Float32Array, auxHiddenStates };
  }
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
