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
