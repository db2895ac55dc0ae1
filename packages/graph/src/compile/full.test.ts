import { expect, test } from 'vitest';
import { captureModel } from '../capture/capture.ts';
import { follow } from '../capture/guard.ts';
import { ModuleList } from '../nn/containers.ts';
import { lendChild, Module } from '../nn/module.ts';
import { Parameter } from '../nn/parameter.ts';
import { RuntimeInput } from '../nn/runtime-input.ts';
import { ops } from '../ops/index.ts';
import { Dim } from '../shape.ts';
import type { Tensor } from '../tensor.ts';
import { inlineRegions } from './full.ts';

class Norm extends Module {
  readonly weight = new Parameter([4]);
  forward(x: Tensor): Tensor {
    return ops.rmsNorm({ x, weight: this.weight }, { epsilon: 1e-5 });
  }
}

class Block extends Module {
  static override readonly region = { name: 'block', inputs: ['x'] };
  readonly norm = new Norm();
  readonly state = new RuntimeInput('state', 'float32', ['batch', 'rows', 4]);
  declare shared: Norm;
  forward(x: Tensor): Tensor {
    const rows = ops.reshape(
      { x: ops.zerosLike({ x: this.state }) },
      { dims: [(this.state as unknown as Tensor).dim(1), (this.state as unknown as Tensor).dim(0), 4] },
    );
    ops.floor({ x: rows });
    return this.shared.forward(this.norm.forward(x));
  }
}

class Tied extends Module {
  readonly blocks: ModuleList<Block>;
  readonly shared = new Norm();
  readonly table = new Parameter([4, 4]);
  readonly head: Parameter;

  constructor() {
    super();
    this.head = this.table;
    this.blocks = new ModuleList([new Block(), new Block()]);
    for (const block of this.blocks) lendChild(block, 'shared', this.shared);
  }

  forward(x: Tensor): Tensor {
    let y = ops.linear({ x, weight: this.table });
    for (const block of this.blocks) y = block.forward(y);
    return ops.linear({ x: this.shared.forward(y), weight: this.head });
  }
}

function captured(model = new Tied()) {
  return captureModel(model, {
    inputs: { x: { dtype: 'float32', dims: [Dim.symbol('batch'), Dim.of(4)] } },
    call: (m, { x }) => ({ y: m.forward(x) }),
  });
}

test('every region call becomes ops at the paths of the module that is called', () => {
  const graph = inlineRegions(captured());
  expect(graph.nodes.every((node) => node.kind === 'op')).toBe(true);
  expect(graph.nodes.filter((node) => node.kind === 'op' && node.op === ops.rmsNorm).map(({ path }) => path)).toEqual([
    'blocks.0.norm',
    'blocks.0.shared',
    'blocks.1.norm',
    'blocks.1.shared',
    'shared',
  ]);
});

test('each call has its own weights; a tied or lent one comes once', () => {
  const model = new Tied();
  const { weights } = inlineRegions(captured(model));
  expect(weights.map(({ path }) => path).sort()).toEqual(['blocks.0.norm.weight', 'blocks.1.norm.weight', 'shared.weight', 'table']);
  for (const { path, source } of weights) expect(follow(model, path.split('.'))).toBe(source);
  expect(new Set(weights.map(({ source }) => source)).size).toBe(4);
});

test('runtime inputs and their symbols belong to the layer, also in attributes', () => {
  const graph = inlineRegions(captured());
  expect(graph.runtimeInputs.map(({ path, value }) => `${path}: ${value.dims.join(' ')}`)).toEqual([
    'blocks.0.state: batch @blocks.0 4',
    'blocks.1.state: batch @blocks.1 4',
  ]);
  const reshapes = graph.nodes.filter((node) => node.kind === 'op' && node.op === ops.reshape);
  expect(reshapes.map((node) => (node.kind === 'op' ? (node.attributes['dims'] as unknown[]).map(String) : []))).toEqual([
    ['@blocks.0', 'batch', '4'],
    ['@blocks.1', 'batch', '4'],
  ]);
});

test('a region that gives a tensor with its own symbols gives the layer its own ones', () => {
  class Opener extends Module {
    static override readonly region = { name: 'opener', inputs: [] };
    readonly state = new RuntimeInput('state', 'float32', ['batch', 'rows']);
    forward(): Tensor {
      return ops.zerosLike({ x: this.state });
    }
  }
  class Two extends Module {
    readonly a = new Opener();
    readonly b = new Opener();
  }
  const model = captureModel(new Two(), { inputs: {}, call: ({ a, b }) => ({ a: a.forward(), b: b.forward() }) });
  expect(model.cache.count()).toBe(1);
  const dims = [model.graph, inlineRegions(model)].map(({ outputs }) => outputs.map(({ value }) => value.dims.join(' ')));
  expect(dims).toEqual([
    ['batch @a', 'batch @b'],
    ['batch @a', 'batch @b'],
  ]);
});
