import { Buffer, lendChild, Module, memoryStorage, Parameter } from '@graft/graph';
import { expect, test } from 'vitest';
import { DeviceWeights } from './device-weights.ts';

class Norm extends Module {
  readonly weight = filled(1);
  readonly table = new Buffer([2], Float32Array.of(5, 6));
}

class Model extends Module {
  readonly norm = new Norm();
  tied: Parameter = this.norm.weight;
  readonly other = new Module();
  constructor() {
    super();
    lendChild(this.other, 'norm', this.norm);
    lendChild(this.other, 'extra', new Norm());
  }
}

function filled(value: number): Parameter {
  const parameter = new Parameter([2]);
  fill(parameter, value);
  return parameter;
}

function fill(parameter: Parameter, value: number): void {
  parameter.setStorage(memoryStorage('float32', [2], { data: Float32Array.of(value, value) }));
}

const copyOf = (model: Model) => DeviceWeights.copyOf(model, () => undefined);

test('tied weights and lent modules are one memory; a module that is only lent has one too', async () => {
  using weights = await copyOf(new Model());
  expect(weights.at('tied', [2])).toBe(weights.at('norm.weight', [2]));
  expect(weights.at('other.norm.table', [2])).toBe(weights.at('norm.table', [2]));
  expect([...weights.at('other.extra.table', [2]).view]).toEqual([5, 6]);
  expect(weights.bytes).toBe(4 * 2 * 4); // weight and table of two norms, two floats each
});

test('an update writes new values into the same memory, also those of an object that has taken the place of another', async () => {
  const model = new Model();
  using weights = await copyOf(model);
  const [norm, extra] = ['norm.weight', 'other.extra.weight'].map((path) => weights.at(path, [2]).view);
  fill(model.norm.weight, 7);
  (model.other as unknown as { extra: { weight: Parameter } }).extra.weight = filled(8);
  weights.update();
  expect([...norm!, ...extra!]).toEqual([7, 7, 8, 8]);
  expect(weights.at('other.extra.weight', [2]).view).toBe(extra);
  expect(weights.bytes).toBe(4 * 2 * 4);
});

test('an update that cannot be whole changes nothing', async () => {
  const model = new Model();
  using weights = await copyOf(model);
  const { view } = weights.at('norm.weight', [2]);
  weights.at('tied', [2]);
  fill(model.norm.weight, 7);
  model.tied = filled(9);
  expect(() => weights.update()).toThrow('The weight was tied to "norm.weight" and no longer is.');
  expect([...view]).toEqual([1, 1]);
});

test('a path without a weight, and another shape, are refused', async () => {
  using weights = await copyOf(new Model());
  expect(() => weights.at('norm.bias', [2])).toThrow('The model has no parameter or buffer at this path.');
  expect(() => weights.at('norm.weight', [3])).toThrow('has the shape [2]; a graph takes [3].');
});

test('a model without values, and an aborted signal, are refused', async () => {
  const model = new Model();
  (model.norm as { weight: Parameter }).weight = new Parameter([2]);
  await expect(copyOf(model)).rejects.toThrow('has no values yet');
  await expect(DeviceWeights.copyOf(new Model(), () => undefined, AbortSignal.abort(new Error('enough')))).rejects.toThrow('enough');
});
