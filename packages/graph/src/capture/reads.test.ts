import { expect, test } from 'vitest';
import { ModuleList } from '../nn/containers.ts';
import { Module } from '../nn/module.ts';
import { Parameter } from '../nn/parameter.ts';
import { dimsOf } from '../shape.ts';
import type { Tensor } from '../tensor.ts';
import { captureModel } from './capture.ts';
import { readsOf } from './reads.ts';

class Scale extends Module {
  readonly weight = new Parameter([2]);
  readonly factor = 2;
  readonly unread = 3;
  forward(x: Tensor): Tensor {
    return x.mul(this.weight).mul(this.doubled);
  }
  get doubled(): number {
    return 2 * this.factor;
  }
}

class Layer extends Module {
  static override readonly region = { name: 'layer', inputs: ['x'] };
  readonly scale = new Scale();
  forward(x: Tensor): Tensor {
    return this.scale.forward(x);
  }
}

class Model extends Module {
  readonly layers = new ModuleList([new Layer(), new Layer()]);
  forward(x: Tensor): Tensor {
    for (const layer of this.layers) x = layer.forward(x);
    return x;
  }
}

test('reads tell which properties of which objects forward used, in each module that shares a graph', () => {
  const model = new Model();
  const x = { dtype: 'float32', dims: dimsOf([2]) } as const;
  const captured = captureModel(model, { inputs: { x }, call: (m, inputs) => ({ y: m.forward(inputs.x) }) });
  expect(captured.cache.count('layer')).toBe(1);
  const reads = readsOf(captured);
  const keysOf = (object: object) => reads.filter((read) => read.object === object).map(({ key }) => key);
  for (const { scale } of model.layers) expect(new Set(keysOf(scale))).toEqual(new Set([null, 'forward', 'weight', 'factor']));
  expect(reads).toContainEqual({ path: 'layers.1.scale.factor', object: model.layers[1]!.scale, key: 'factor' });
  expect(new Set(keysOf(model.layers))).toEqual(new Set([null, 'length', '0', '1']));
});
