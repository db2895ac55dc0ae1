import { setImmediate } from 'node:timers/promises';
import { blockTypeOf, type Module, memoryStorage, type Parameter, partBytes, partsOf, type WeightStorage } from '@graft/graph';
import type { Checkpoint } from './checkpoint.ts';
import { checkSources, convertParameter, type Piece, type PlannedParameter } from './convert-parameter.ts';
import { WeightCacheError } from './errors.ts';
import { type MapParameters, mapParameters } from './map-parameters.ts';
import { decodeBlocks } from './quantize.ts';
import { cacheKey, cacheLayout, WeightCache } from './weight-cache.ts';
import type { WeightPolicy } from './weight-policy.ts';

export interface LoadWeights extends MapParameters {
  policy: WeightPolicy;
  /** A folder that keeps converted weights for the next start; null keeps them in memory only. */
  cacheDirectory: string | null;
  signal?: AbortSignal;
  /** @param fraction 0 to 1, never falling. */
  onProgress?: (fraction: number, message: string) => void;
  /** Called if the weights could not be kept for the next start. */
  onWarning?: (message: string) => void;
}

export interface LoadReport {
  fromCache: boolean;
  /** All parts together. */
  bytes: number;
  parameters: number;
  seconds: number;
}

/** Weights that are read, checked and converted, but not yet given to their parameters. */
export interface StagedWeights {
  readonly report: LoadReport;
  /** Gives every parameter its new storage. Old storages are not changed. Cannot fail. */
  apply(): void;
}

/**
 * Fills every parameter of the model from the checkpoint, all or nothing.
 * @throws like `stageWeights`.
 */
export async function loadWeights(model: Module, checkpoint: Checkpoint, options: LoadWeights): Promise<LoadReport> {
  const staged = await stageWeights(new Map(model.namedParameters()), checkpoint, options);
  staged.apply();
  return staged.report;
}

/**
 * Reads the whole checkpoint into new storages for these parameters, each in the format that the policy chooses. The parts are in a file of the cache
 * directory (`StoragePart.location`), or else in memory. No parameter changes before `apply`. The checkpoint may be closed afterwards.
 * @param parameters by the names that `rules` knows, in the model's order.
 * @throws CheckpointMissingTensorError, CheckpointShapeMismatchError, CheckpointUnexpectedTensorError, CheckpointDTypeError, CheckpointCorruptError,
 * StorageMismatchError (a policy's format does not fit a shape); the signal's reason.
 */
export async function stageWeights(
  parameters: ReadonlyMap<string, Parameter>,
  checkpoint: Checkpoint,
  options: LoadWeights,
): Promise<StagedWeights> {
  const start = performance.now();
  const plan = planOf(parameters, checkpoint, options);
  const { storages, fromCache } =
    options.cacheDirectory === null
      ? { storages: await convertInMemory(plan, options), fromCache: false }
      : await throughCache(plan, checkpoint, options.cacheDirectory, options);
  options.signal?.throwIfAborted();
  const bytes = plan.reduce((sum, parameter) => sum + bytesOfParts(parameter), 0);
  options.onProgress?.(1, fromCache ? 'weights from the cache' : 'weights converted');
  return {
    report: { fromCache, bytes, parameters: plan.length, seconds: (performance.now() - start) / 1000 },
    apply() {
      for (const [name, storage] of storages) parameters.get(name)!.setStorage(readable(storage));
    },
  };
}

function readable(storage: WeightStorage): WeightStorage {
  return blockTypeOf(storage.format) === null ? storage : { ...storage, decode: () => decodeBlocks(storage) };
}

/** Finds every fault that can be found without reading a weight. */
function planOf(parameters: ReadonlyMap<string, Parameter>, checkpoint: Checkpoint, options: LoadWeights): PlannedParameter[] {
  const shapes = [...parameters].map(([name, parameter]) => [name, parameter.shape] as const);
  return mapParameters(shapes, checkpoint, options).map((mapped) => {
    checkSources(mapped);
    const sources = [...new Set(mapped.segments.map(({ tensor }) => tensor.dtype))];
    const format = options.policy({ name: mapped.name, shape: mapped.shape, sources });
    partsOf(format, mapped.shape); // throws where the format does not fit the shape
    return { ...mapped, format };
  });
}

async function throughCache(plan: PlannedParameter[], checkpoint: Checkpoint, directory: string, options: LoadWeights) {
  options.onProgress?.(0, 'identifying the checkpoint');
  const cache = new WeightCache(directory, cacheKey(await checkpoint.fingerprint(), plan), cacheLayout(plan));
  options.signal?.throwIfAborted();
  const fromCache = cache.isComplete();
  if (!fromCache) {
    const fill: Parameters<WeightCache['build']>[0] = (write) =>
      convertAll(plan, options, ({ name }, { parts, offsets }) => {
        for (const [part, bytes] of Object.entries(parts)) write(name, part, offsets[part]!, bytes);
      });
    const problem = await cache.build(fill).then(
      () => null,
      (error: unknown) => error,
    );
    if (problem instanceof WeightCacheError) {
      options.onWarning?.(`The converted weights are kept in memory, and the next start converts them again: ${problem.message}`);
      return { storages: await convertInMemory(plan, options), fromCache: false };
    }
    if (problem !== null) throw problem;
  }
  cache.use();
  return { fromCache, storages: plan.map((parameter): [string, WeightStorage] => [parameter.name, cache.storage(parameter)]) };
}

async function convertInMemory(plan: PlannedParameter[], options: LoadWeights): Promise<[string, WeightStorage][]> {
  const arrays = new Map(plan.map((parameter) => [parameter.name, emptyParts(parameter)]));
  await convertAll(plan, options, ({ name }, { parts, offsets }) => {
    for (const [part, bytes] of Object.entries(parts)) arrays.get(name)![part]!.set(bytes, offsets[part]!);
  });
  return plan.map(({ name, format, shape }) => [name, memoryStorage(format, shape, arrays.get(name)!)]);
}

const longestTurnMs = 20;

/** Converts parameter after parameter, and yields to the event loop about every 20 ms. */
async function convertAll(
  plan: PlannedParameter[],
  { signal, onProgress }: LoadWeights,
  take: (parameter: PlannedParameter, piece: Piece) => void,
): Promise<void> {
  const total = plan.reduce((sum, parameter) => sum + bytesOfParts(parameter), 0);
  let done = 0;
  let turn = performance.now();
  for (const parameter of plan) {
    for (const piece of convertParameter(parameter)) {
      take(parameter, piece);
      for (const bytes of Object.values(piece.parts)) done += bytes.byteLength;
      if (performance.now() - turn < longestTurnMs) continue;
      onProgress?.(Math.min(done / total, 1), `converting ${parameter.name}`);
      await setImmediate();
      signal?.throwIfAborted();
      turn = performance.now();
    }
  }
}

function emptyParts({ format, shape }: PlannedParameter): Record<string, Uint8Array> {
  return Object.fromEntries(Object.entries(partsOf(format, shape)).map(([name, part]) => [name, new Uint8Array(partBytes(part))]));
}

function bytesOfParts({ format, shape }: PlannedParameter): number {
  return Object.values(partsOf(format, shape)).reduce((sum, part) => sum + partBytes(part), 0);
}
