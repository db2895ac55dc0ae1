import { createHash } from 'node:crypto';
import { totalmem } from 'node:os';
import { type Module, memoryStorage } from '@graft/graph';
import { EngineConfigError } from '../errors.ts';
import { Random } from '../random.ts';

/**
 * Fills every parameter with random numbers in float32: matrices that keep the size of activations, vectors (norms) around 1, biases around 0.
 * A parameter's numbers depend on the seed and its name only, so two models with the same names have the same weights, in any order.
 * @throws EngineConfigError if they do not fit into this machine's memory.
 */
export function fillRandom(model: Module, seed: number): void {
  const parameters = [...model.namedParameters()];
  refuseTooLarge(parameters.reduce((sum, [, { shape }]) => sum + 4 * sizeOf(shape), 0));
  for (const [name, parameter] of parameters) {
    const { shape } = parameter;
    parameter.setStorage(memoryStorage('float32', shape, { data: valuesOf(name, shape, seed) }));
  }
}

function valuesOf(name: string, shape: readonly number[], seed: number): Float32Array {
  const random = new Random(createHash('sha256').update(`${seed} ${name}`).digest().readUIntBE(0, 6));
  const [center, spread] = shape.length > 1 ? [0, Math.sqrt(3 / shape.at(-1)!)] : name.endsWith('bias') ? [0, 0.1] : [1, 0.25];
  return Float32Array.from({ length: sizeOf(shape) }, () => center + spread * (2 * random.next() - 1));
}

function sizeOf(shape: readonly number[]): number {
  return shape.reduce((product, dim) => product * dim, 1);
}

function refuseTooLarge(bytes: number): void {
  if (bytes <= totalmem()) return;
  const gigabytes = (bytes / 1e9).toFixed(1);
  throw new EngineConfigError(
    `Random weights for this config take ${gigabytes} GB in float32; this machine has ${(totalmem() / 1e9).toFixed(1)} GB.`,
    '--config',
    'give a config with the same kinds of layers, but fewer and smaller ones, for instance with --config-overrides.',
  );
}
