import { nearestNames } from '@graft/registry';
import type { ModelContext } from '../context.ts';
import { pipelineLayers } from '../models/pipeline.ts';
import type { Checkpoint, CheckpointTensor } from './checkpoint.ts';
import { at, CheckpointMissingTensorError, CheckpointShapeMismatchError, CheckpointUnexpectedTensorError } from './errors.ts';
import type { Run, WeightRules } from './rules.ts';

/** A run of a parameter's elements with the tensor that it comes from. */
export interface Segment extends Omit<Run, 'key' | 'shape'> {
  readonly tensor: CheckpointTensor;
}

/** Where a parameter's elements come from, in row-major order of the parameter. */
export interface MappedParameter {
  readonly name: string;
  readonly shape: readonly number[];
  readonly segments: readonly Segment[];
}

export interface MapParameters {
  /** How the checkpoint's tensors become parameters; its family says so. */
  rules: WeightRules;
  /** Keys that are left out on purpose, such as the layers of another rank (`keysOfOtherRanks`). */
  ignoreKeys?: (key: string) => boolean;
}

/**
 * Finds the checkpoint's tensors for every parameter.
 * @throws CheckpointMissingTensorError, CheckpointShapeMismatchError, CheckpointUnexpectedTensorError
 */
export function mapParameters(
  parameters: Iterable<readonly [name: string, shape: readonly number[]]>,
  checkpoint: Checkpoint,
  { rules, ignoreKeys = () => false }: MapParameters,
): MappedParameter[] {
  const used = new Set<string>();
  const mapped = [...parameters].map(([name, shape]): MappedParameter => {
    const runs = rules.runsOf(name, shape, (key) => checkpoint.tensors.has(key));
    requireTensors({ name, shape, checkpoint }, runs);
    const segments = runs.map(({ key, shape: _, ...run }) => ({ ...run, tensor: checkpoint.tensors.get(key)! }));
    for (const { key } of runs) used.add(key);
    return { name, shape, segments };
  });
  refuseUnused(checkpoint, used, mapped, (key) => rules.isUnused(key) || ignoreKeys(key), rules);
  return mapped;
}

/** `MapParameters.ignoreKeys` for a pipeline rank: what is of the model and held by other ranks. With one rank that is nothing. */
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

interface Wanted {
  name: string;
  shape: readonly number[];
  checkpoint: Checkpoint;
}

function requireTensors({ name, shape, checkpoint }: Wanted, runs: readonly Run[]): void {
  const parameter = `The parameter "${name}" [${shape.join(', ')}]`;
  const absent = [...new Set(runs.map(({ key }) => key))].filter((key) => !checkpoint.tensors.has(key));
  if (absent.length > 0) {
    const shown = absent.slice(0, 4).map((key) => `"${key}"`);
    const more = absent.length > shown.length ? ` and ${absent.length - shown.length} more` : '';
    throw new CheckpointMissingTensorError(
      `${parameter} needs ${shown.join(', ')}${more}, which the checkpoint lacks. Nearest keys: ${nearestKeys(absent[0]!, checkpoint.tensors.keys()) || 'none'}.`,
      at(checkpoint.path, absent[0]),
    );
  }
  const other = runs.find(({ key, shape: needed }) => checkpoint.tensors.get(key)!.shape.join() !== needed.join());
  if (other === undefined) return;
  throw new CheckpointShapeMismatchError(
    `${parameter} needs "${other.key}" as [${other.shape.join(', ')}], and it is [${checkpoint.tensors.get(other.key)!.shape.join(', ')}].`,
    at(checkpoint.path, other.key),
  );
}

function nearestKeys(key: string, keys: Iterable<string>): string {
  return nearestNames(key, keys, 3).join(', ');
}

function refuseUnused(
  checkpoint: Checkpoint,
  used: ReadonlySet<string>,
  mapped: readonly MappedParameter[],
  ignored: (key: string) => boolean,
  rules: WeightRules,
): void {
  const unused = [...checkpoint.tensors.keys()].filter((key) => !used.has(key) && !ignored(key));
  const [first] = unused;
  if (first === undefined) return;
  const shown = unused.slice(0, 20).map((key) => JSON.stringify(key));
  const more = unused.length > shown.length ? ` and ${unused.length - shown.length} more` : '';
  const nearest =
    nearestKeys(
      rules.parameterOf(first),
      mapped.map(({ name }) => name),
    ) || 'none';
  throw new CheckpointUnexpectedTensorError(
    `The model has no use for ${unused.length} of the checkpoint's ${checkpoint.tensors.size} tensors: ${shown.join(', ')}${more}. Parameters nearest to the first: ${nearest}.`,
    at(checkpoint.path, first),
  );
}
