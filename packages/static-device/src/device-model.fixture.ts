import { fileURLToPath } from 'node:url';
import {
  architecturesOf,
  float32Policy,
  type Llama4Config,
  Llama4ForCausalLM,
  Llama4ForConditionalGeneration,
  llama4,
  loadWeights,
  type ModelContext,
  openCheckpoint,
  upstreamContext,
} from '@graft/core-model';
import { captureLanguageModel } from '@graft/engine';
import {
  CaptureCache,
  type CapturedModel,
  type HostTensor,
  InterpreterBackend,
  memoryStorage,
  type Program,
  type ProgramStep,
  type RuntimeBinding,
} from '@graft/graph';
import { expect } from 'vitest';

const caseFolder = (name: string): string => fileURLToPath(new URL(`../../../tests/parity/cases/${name}`, import.meta.url));

export type CaseModel = Llama4ForCausalLM | Llama4ForConditionalGeneration;

export interface OpenedCase {
  readonly model: CaseModel;
  readonly context: ModelContext<Llama4Config>;
  bindRuntimeInput(path: string, kind: string): RuntimeBinding;
}

/** More rows than any sequence here needs, with those of padding. */
const spareRows = 16;

/** A reference case with its weights, as upstream builds it. */
export async function openCase(name: string, { maxModelLength = 64 }: { maxModelLength?: number } = {}): Promise<OpenedCase> {
  const checkpoint = await openCheckpoint(caseFolder(name));
  const config = llama4.parseConfig(checkpoint.config, { where: name });
  const [architecture = ''] = architecturesOf(checkpoint.config);
  const context = upstreamContext(architecture, config, { platform: 'static', mode: 'compile', maxModelLength });
  const model = architecture === 'Llama4ForCausalLM' ? new Llama4ForCausalLM(context) : new Llama4ForConditionalGeneration(context);
  await loadWeights(model, checkpoint, { policy: float32Policy, cacheDirectory: null, rules: llama4.weights(config) });
  return { model, context, bindRuntimeInput: (path, kind) => bindRuntimeInput(model, maxModelLength, path, kind) };
}

function bindRuntimeInput(model: CaseModel, maxModelLength: number, path: string, kind: string): RuntimeBinding {
  const owner = path.split('.').slice(0, -1).join('.');
  const attention = new Map(model.namedModules()).get(owner) as unknown as { getKvCacheSpec(): { kind: string; chunkSize?: number } };
  const { kind: group, chunkSize = maxModelLength } = attention.getKvCacheSpec();
  if (kind.startsWith('kvCache.')) return { kind: 'cache', rows: chunkSize + spareRows };
  return { kind: 'input', name: `${group}.${kind}` };
}

export interface Sequence {
  /** Tokens in the cache before this step. */
  computed: number;
  tokens: readonly number[];
}

/** A step of the bucket `batch` x `query`; tokens that a sequence has not are padded. Logits are those of each sequence's last real token. */
export function stepOf(
  sequences: readonly Sequence[],
  query: number,
  { context }: OpenedCase,
  { firstSlot = 0 }: { firstSlot?: number } = {},
): ProgramStep & { bucket: string } {
  const batch = sequences.length;
  const chunk = context.config.attentionChunkSize ?? Number.POSITIVE_INFINITY;
  const int64 = (dims: number[], values: number[]): HostTensor => ({ dtype: 'int64', dims, data: BigInt64Array.from(values, BigInt) });
  const int32 = (dims: number[], values: number[]): HostTensor => ({ dtype: 'int32', dims, data: Int32Array.from(values) });
  const row = (sequence: Sequence, at: (i: number) => number): number[] =>
    Array.from({ length: query }, (_, i) => at(Math.min(i, sequence.tokens.length - 1)));
  const group = (name: string, startOf: (computed: number) => number): Record<string, HostTensor> => {
    const starts = sequences.map(({ computed }) => startOf(computed));
    const lengths = starts.map((start) => start + query);
    return {
      [`${name}.queryStart`]: int32([batch], starts),
      [`${name}.sequenceLengths`]: int32([batch], lengths),
      [`${name}.totalLength`]: int32([], [Math.max(...lengths)]),
    };
  };
  const hasChunks = Number.isFinite(chunk) && context.config.layers.some(({ rope }) => rope);
  const hasFull = !hasChunks || context.config.layers.some(({ rope }) => !rope);
  return {
    bucket: `${batch}x${query}`,
    firstSlot,
    batch,
    inputs: {
      inputIds: int64(
        [batch, query],
        sequences.flatMap(({ tokens }) => Array.from({ length: query }, (_, i) => tokens[i] ?? 0)),
      ),
      positions: int64(
        [batch, query],
        sequences.flatMap((sequence) => row(sequence, (i) => sequence.computed + i)),
      ),
      logitsIndices: int64(
        [batch],
        sequences.map(({ tokens }, i) => i * query + tokens.length - 1),
      ),
      ...(hasChunks && group('chunked-local', (computed) => computed % chunk)),
      ...(hasFull && group('full', (computed) => computed)),
    },
  };
}

/** The step's graph for one bucket. */
export function captureBucket({ model }: OpenedCase, bucket: string, cache = new CaptureCache()): CapturedModel {
  const [batch, sequence] = bucket.split('x').map(Number) as [number, number];
  return captureLanguageModel(model, cache, { batch, sequence });
}

/** The same model, whole and for any shape, on the interpreter. */
export function oracleOf(opened: OpenedCase, kvSlots: number): Promise<Program> {
  return oracleFor(opened, captureLanguageModel(opened.model, new CaptureCache()), kvSlots);
}

export function oracleFor({ bindRuntimeInput }: OpenedCase, captured: CapturedModel, kvSlots: number): Promise<Program> {
  return new InterpreterBackend().compile(captured, { bindRuntimeInput, kvSlots });
}

/** Reproducible numbers between -1 and 1. */
export function float32(dims: readonly number[]): HostTensor & { data: Float32Array } {
  const count = dims.reduce((product, size) => product * size, 1);
  return { dtype: 'float32', dims, data: Float32Array.from({ length: count }, (_, i) => Math.sin(i * 0.7)) };
}

/** The prompt's first piece, padded; its second, over the boundary of a chunk; two decode steps. Then a second sequence, and a step of both. */
export function someSteps(opened: OpenedCase): (ProgramStep & { bucket: string })[] {
  const tokens = (count: number, seed: number): number[] => Array.from({ length: count }, (_, i) => (37 * i + 11 * seed) % 320);
  return [
    stepOf([{ computed: 0, tokens: tokens(5, 1) }], 8, opened),
    stepOf([{ computed: 5, tokens: tokens(8, 2) }], 8, opened),
    stepOf([{ computed: 13, tokens: tokens(3, 3) }], 4, opened),
    stepOf([{ computed: 16, tokens: [7] }], 1, opened),
    stepOf([{ computed: 0, tokens: tokens(3, 4) }], 4, opened, { firstSlot: 1 }),
    stepOf(
      [
        { computed: 17, tokens: [9] },
        { computed: 3, tokens: [8] },
      ],
      1,
      opened,
    ),
    stepOf([{ computed: 4, tokens: [10] }], 1, opened, { firstSlot: 1 }),
  ];
}

export const buckets = ['1x8', '1x4', '1x1', '2x1'];

/** Largest difference of the logits, of the largest value where that is over 1. */
export function difference(actual: HostTensor, expected: HostTensor): number {
  expect([...actual.dims]).toEqual([...expected.dims]);
  let largest = 1;
  let worst = 0;
  for (let i = 0; i < expected.data.length; i++) {
    const [a, b] = [Number(actual.data[i]), Number(expected.data[i])];
    largest = Math.max(largest, Math.abs(b));
    worst = Math.max(worst, Number.isFinite(a) ? Math.abs(a - b) : Number.POSITIVE_INFINITY);
  }
  return worst / largest;
}

/** Gives every parameter other values, in a storage of its own. */
export function scaleWeights({ model }: OpenedCase, factor: number): void {
  for (const [, parameter] of model.namedParameters()) {
    const data = parameter.toFloat32().map((value) => value * factor);
    parameter.setStorage(memoryStorage('float32', parameter.shape, { data }));
  }
}
