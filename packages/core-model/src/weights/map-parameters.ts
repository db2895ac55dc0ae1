import { nearestNames } from '@graft/common';
import type { ModelContext } from '../context.ts';
import { pipelineLayers } from '../models/pipeline.ts';
import type { Checkpoint, CheckpointTensor } from './checkpoint.ts';
import { at, CheckpointMissingTensorError, CheckpointShapeMismatchError, CheckpointUnexpectedTensorError } from './errors.ts';
import type { Run, WeightRules } from './rules.ts';

/** A run of a parameter's elements, with its tensor. */
export interface Segment extends Omit<Run, 'key' | 'shape'> {
  readonly tensor: CheckpointTensor;
}

/** A parameter with the source of its elements, in its row-major order. */
export interface MappedParameter {
  readonly name: string;
  readonly shape: readonly number[];
  readonly segments: readonly Segment[];
}

/** Rows of each matrix that come from tensors of one dtype. */
export interface StackedRows {
  readonly dtype: string;
  /** Of each matrix. */
  readonly rows: number;
  /** The rows of all matrices, in order. */
  readonly segments: readonly Segment[];
}

/** The rows that each matrix is stacked from, one after the other; null where matrices differ, or are made of other pieces than whole rows. */
export function stackOf({ shape, segments }: Pick<MappedParameter, 'shape' | 'segments'>): StackedRows[] | null {
  const joined = joinSegments(segments);
  const [rows = 1, columns = 1] = shape.slice(-2);
  if (joined.length === 1) return [{ dtype: joined[0]!.tensor.dtype, rows: shape.length < 2 ? 1 : rows, segments: joined }];
  if (shape.length < 2) return null;
  const places: Segment[][] = [];
  let [row, place] = [0, 0];
  for (const segment of segments) {
    (places[place++] ??= []).push(segment);
    row += segment.elements / columns;
    if (row < rows) continue;
    if (row > rows) return null;
    [row, place] = [0, 0];
  }
  const matrices = shape.slice(0, -2).reduce((product, size) => product * size, 1);
  const stack = places.map((each) => ({ dtype: each[0]!.tensor.dtype, rows: each[0]!.elements / columns, segments: joinSegments(each) }));
  const isEven = places.every(
    (each, i) =>
      each.length === matrices &&
      Number.isInteger(stack[i]!.rows) &&
      each.every(({ elements, tensor }) => elements === each[0]!.elements && tensor.dtype === stack[i]!.dtype),
  );
  return isEven ? stack : null;
}

/** Segments that follow each other in one tensor, as one. */
function joinSegments(segments: readonly Segment[]): Segment[] {
  const joined: Segment[] = [];
  for (const segment of segments) {
    const last = joined.at(-1);
    const follows =
      last?.tensor === segment.tensor &&
      last.arrangement === null &&
      segment.arrangement === null &&
      last.first + last.elements === segment.first;
    if (follows) joined[joined.length - 1] = { ...last, elements: last.elements + segment.elements };
    else joined.push(segment);
  }
  return joined;
}

export interface MapParameters {
  /** How the checkpoint's tensors become parameters, from its family. */
  rules: WeightRules;
  /** Whether a key is unused on purpose, like the layers of another rank (`keysOfOtherRanks`). */
  ignoreKeys?: (key: string) => boolean;
  /** For errors: the override that built a parameter, in words; null for upstream. */
  madeBy?: (parameter: string) => string | null;
}

/**
 * Finds the checkpoint's tensors for every parameter.
 * @throws CheckpointMissingTensorError, CheckpointShapeMismatchError, CheckpointUnexpectedTensorError
 */
export function mapParameters(
  parameters: Iterable<readonly [name: string, shape: readonly number[]]>,
  checkpoint: Checkpoint,
  { rules, ignoreKeys = () => false, madeBy = () => null }: MapParameters,
): MappedParameter[] {
  const used = new Set<string>();
  const mapped = [...parameters].map(([name, shape]): MappedParameter => {
    const runs = rules.runsOf(name, shape, (key) => checkpoint.tensors.has(key));
    requireTensors(name, shape, checkpoint, runs, madeBy);
    const segments = runs.map(({ key, shape: _, ...run }) => ({ ...run, tensor: checkpoint.tensors.get(key)! }));
    for (const { key } of runs) used.add(key);
    return { name, shape, segments };
  });
  const unused = [...checkpoint.tensors.keys()].filter((key) => !used.has(key) && !rules.isUnused(key) && !ignoreKeys(key));
  const [first] = unused;
  if (first === undefined) return mapped;
  const known = mapped.map(({ name }) => name);
  const what = `The model does not use ${unused.length} of the checkpoint's ${checkpoint.tensors.size} tensors: ${firstOf(unused, 20)}.`;
  const nearby = `Parameters nearest to the first: ${nearest(rules.parameterOf(first), known)}.`;
  throw new CheckpointUnexpectedTensorError(`${what} ${nearby}`, at(checkpoint.path, first));
}

/** `MapParameters.ignoreKeys` for a pipeline rank: the keys of other ranks. */
export function keysOfOtherRanks(
  { config, pipeline }: Pick<ModelContext, 'config' | 'pipeline'>,
  rules: WeightRules,
): (key: string) => boolean {
  const { start, end } = pipelineLayers(config.numHiddenLayers, pipeline);
  const [isFirst, isLast] = [pipeline.rank === 0, pipeline.rank === pipeline.size - 1];
  return (key) => {
    const place = rules.placeOf(key);
    if (typeof place === 'number') return place < config.numHiddenLayers && !(place >= start && place < end);
    if (place === 'last') return !isLast;
    const tied = config.tieWordEmbeddings && rules.parameterOf(key).startsWith('model.embed_tokens.');
    return place === 'first' && !isFirst && !(isLast && tied);
  };
}

function requireTensors(
  name: string,
  shape: readonly number[],
  { path, tensors }: Checkpoint,
  runs: readonly Run[],
  madeBy: NonNullable<MapParameters['madeBy']>,
): void {
  const parameter = `The parameter "${name}" [${shape.join(', ')}]`;
  const [first, ...others] = new Set(runs.map(({ key }) => key).filter((key) => !tensors.has(key)));
  if (first !== undefined) {
    const what = `${parameter} needs ${firstOf([first, ...others], 4)}, which the checkpoint lacks.`;
    throw new CheckpointMissingTensorError(`${what} Nearest keys: ${nearest(first, tensors.keys())}.`, at(path, first));
  }
  for (const { key, shape: needed } of runs) {
    const found = tensors.get(key)!.shape;
    if (found.join() === needed.join()) continue;
    const what = `${parameter} needs "${key}" as [${needed.join(', ')}], and it is [${found.join(', ')}].`;
    const override = madeBy(name);
    if (override === null) throw new CheckpointShapeMismatchError(what, at(path, key));
    const fix = `use the checkpoint that belongs to this config, or correct the shape in ${override}.`;
    throw new CheckpointShapeMismatchError(`${what} The parameter is in ${override}.`, at(path, key), { fix });
  }
}

const nearest = (name: string, known: Iterable<string>): string => nearestNames(name, known, 3).join(', ') || 'none';

/** The first names, and the number of the others. */
function firstOf(names: readonly string[], most: number): string {
  const shown = names.slice(0, most).map((name) => JSON.stringify(name));
  return shown.join(', ') + (names.length > most ? ` and ${names.length - most} more` : '');
}
