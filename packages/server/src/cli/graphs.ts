import { type ExplainGraphsOptions, explainGraphs } from '@graft/engine';
import type { Environment } from './config.ts';
import { askedOf, UsageError } from './flags.ts';
import { defaultPlugins } from './start-engine.ts';
import type { Terminal } from './terminal.ts';

export interface GraphsOptions {
  buckets?: string;
  why?: string;
  json?: boolean;
  [engineKey: string]: unknown;
}

/**
 * How many graphs a model will capture, and why. No weight is read.
 * @throws UsageError without a model, and for buckets or layers that cannot be read.
 */
export async function graphs({ json, buckets, why, ...options }: GraphsOptions, environment: Environment, terminal: Terminal) {
  const { model, ...asked } = askedOf<Partial<ExplainGraphsOptions>>(options, environment);
  if (model === undefined) throw new UsageError('Name a folder with config.json, or a .gguf file.', '--model');
  const { text, record } = await explainGraphs(
    {
      ...asked,
      model,
      ...(buckets !== undefined && { buckets: buckets.split(',').map(bucketOf) }),
      ...(why !== undefined && { why: layersOf(why) }),
    },
    defaultPlugins,
  );
  terminal.stdout.write(`${json === true ? JSON.stringify(record, null, 2) : text}\n`);
}

function bucketOf(text: string): { batch: number; sequence: number } {
  const [, batch, sequence] = /^([1-9]\d*)x([1-9]\d*)$/.exec(text.trim()) ?? [];
  if (batch === undefined) throw new UsageError(`"${text}" is no bucket; one is sequences x tokens, such as 1x128.`, '--buckets');
  return { batch: Number(batch), sequence: Number(sequence) };
}

function layersOf(text: string): [number, number] {
  const [, a, b] = /^(\d+),(\d+)$/.exec(text) ?? [];
  if (a === undefined) throw new UsageError(`"${text}" does not name two layers, such as 3,4.`, '--why');
  return [Number(a), Number(b)];
}
