import { setImmediate } from 'node:timers/promises';
import {
  blockTypeOf,
  type Module,
  memoryStorage,
  type Parameter,
  partBytes,
  partsOf,
  rangesOf,
  rangesStorage,
  StorageMismatchError,
  type WeightStorage,
} from '@graft/graph';
import type { Checkpoint } from './checkpoint.ts';
import { checkSources, convertParameter, type Piece, type PlannedParameter } from './convert-parameter.ts';
import { WeightCacheError } from './errors.ts';
import { expectVersion, readFully, withFile } from './file-bytes.ts';
import { type MapParameters, mapParameters, type StackedRows, stackOf } from './map-parameters.ts';
import { decodeBlocks, sourceTypes } from './quantize.ts';
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
  /** Whether no weight was converted. */
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
 * directory (`StoragePart.location`), in the checkpoint's own file if the policy allows it, or else in memory. No parameter changes before `apply`. The checkpoint may be closed afterwards.
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
  const pieces = plan.flatMap(({ pieces }) => pieces);
  const converted = pieces.filter(({ mapped }) => mapped === null);
  const { storages, fromCache } = await convertPieces(converted, checkpoint, options);
  options.signal?.throwIfAborted();
  const bytes = pieces.reduce((sum, piece) => sum + bytesOfParts(piece), 0);
  options.onProgress?.(1, converted.length === 0 ? 'weights mapped' : fromCache ? 'weights from the cache' : 'weights converted');
  const storageOf = (piece: PlannedPiece): WeightStorage => readable(piece.mapped ?? storages.get(piece.name)!);
  return {
    report: { fromCache, bytes, parameters: plan.length, seconds: (performance.now() - start) / 1000 },
    apply() {
      for (const { name, shape, pieces } of plan)
        parameters.get(name)!.setStorage(pieces.length === 1 ? storageOf(pieces[0]!) : rangesStorage(shape, pieces.map(storageOf)));
    },
  };
}

function readable(storage: WeightStorage): WeightStorage {
  return blockTypeOf(storage.format) === null ? storage : { ...storage, decode: () => decodeBlocks(storage) };
}

/** A parameter, or a range of its rows, that has one format. */
interface PlannedPiece extends PlannedParameter {
  /** Its storage in the checkpoint's file; null where it must be converted or copied. */
  readonly mapped: WeightStorage | null;
}

/** Finds every fault that can be found without reading a weight. */
function planOf(parameters: ReadonlyMap<string, Parameter>, checkpoint: Checkpoint, options: LoadWeights) {
  const shapes = [...parameters].map(([name, parameter]) => [name, parameter.shape] as const);
  return mapParameters(shapes, checkpoint, options).map((mapped) => {
    checkSources(mapped);
    const { name, shape } = mapped;
    const sources = [...new Set(mapped.segments.map(({ tensor }) => tensor.dtype))];
    const stack = stackOf(mapped);
    const format = options.policy({ name, shape, sources, stack: stack?.map(({ dtype, rows }) => ({ dtype, rows })) ?? null });
    partsOf(format, shape); // throws where the format does not fit the shape
    return { name, shape, pieces: piecesOf({ ...mapped, format }, stack, options.policy.mapsCheckpoint ?? false) };
  });
}

/** The ranges of rows of a format that has several, or that are whole in the checkpoint's files, each in the format; else the parameter itself. */
function piecesOf(parameter: PlannedParameter, stack: StackedRows[] | null, maps: boolean): PlannedPiece[] {
  const { name, shape, format } = parameter;
  const ranges = rangesOf(format);
  const pieces = (stack ?? []).map(({ rows, segments }, i): PlannedPiece => {
    const shapeOfRows = shape.length < 2 ? shape : shape.with(-2, rows);
    const piece = {
      name: stack!.length === 1 ? name : `${name} (rows ${i})`,
      shape: shapeOfRows,
      format: ranges?.[i]?.format ?? format,
      segments,
    };
    return { ...piece, mapped: maps ? inCheckpoint(piece) : null };
  });
  if (ranges === null)
    return pieces.length > 0 && pieces.every(({ mapped }) => mapped !== null) ? pieces : [{ ...parameter, mapped: null }];
  if (ranges.map(({ rows }) => rows).join() === stack?.map(({ rows }) => rows).join()) return pieces;
  throw new StorageMismatchError(`The parameter "${name}" is not stacked from the rows of ${format}.`);
}

/** The storage of a piece that is one run of bytes of a file in its own format; null for the others. */
function inCheckpoint({ shape, format, segments: [segment, ...others] }: PlannedParameter): WeightStorage | null {
  const { tensor, first, arrangement } = segment!;
  const source = sourceTypes.get(tensor.dtype)!;
  const { path, version } = tensor.file;
  if (others.length > 0 || arrangement !== null || source.own !== format || version === undefined) return null;
  const offset = tensor.offset + (first / source.elements) * source.bytes;
  const verify = (): void => expectVersion(path, version);
  const parts = Object.entries(partsOf(format, shape)).map(([part, description]) => {
    const read = (): Uint8Array => {
      const bytes = withFile(path, 'r', (file) => readFully(file, path, offset, partBytes(description)));
      verify();
      return bytes;
    };
    return [part, { ...description, location: { path, offset, verify }, read }];
  });
  return { format, parts: Object.fromEntries(parts) };
}

async function convertPieces(plan: PlannedPiece[], checkpoint: Checkpoint, options: LoadWeights) {
  if (plan.length === 0) return { storages: new Map<string, WeightStorage>(), fromCache: true };
  if (options.cacheDirectory === null) return { storages: await convertInMemory(plan, options), fromCache: false };
  return throughCache(plan, checkpoint, options.cacheDirectory, options);
}

async function throughCache(plan: PlannedPiece[], checkpoint: Checkpoint, directory: string, options: LoadWeights) {
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
  return { fromCache, storages: new Map(plan.map((piece) => [piece.name, cache.storage(piece)])) };
}

async function convertInMemory(plan: PlannedParameter[], options: LoadWeights): Promise<Map<string, WeightStorage>> {
  const arrays = new Map(plan.map((parameter) => [parameter.name, emptyParts(parameter)]));
  await convertAll(plan, options, ({ name }, { parts, offsets }) => {
    for (const [part, bytes] of Object.entries(parts)) arrays.get(name)![part]!.set(bytes, offsets[part]!);
  });
  return new Map(plan.map(({ name, format, shape }) => [name, memoryStorage(format, shape, arrays.get(name)!)]));
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
