import { describe, expect, test } from 'vitest';
import { captureModel } from './capture/capture.ts';
import { GraphInvalidError } from './errors.ts';
import type { Graph, OpNode, RegionNode } from './graph.ts';
import { Module } from './nn/module.ts';
import { RuntimeInput } from './nn/runtime-input.ts';
import { ops } from './ops/index.ts';
import { Dim, dimsOf } from './shape.ts';
import type { Tensor } from './tensor.ts';
import { verifyGraph } from './verify-graph.ts';

class Region extends Module {
  static override readonly region = { name: 'region', inputs: ['x'] };
  forward(x: Tensor): Tensor {
    return ops.floor({ x });
  }
}

class Model extends Module {
  readonly inner = new Region();
  readonly keys = new RuntimeInput('kvCache', 'float32', ['batch', 1, 'rows', 2]);
  readonly values = new RuntimeInput('kvCache', 'float32', ['batch', 1, 'rows', 2]);
  readonly lengths = new RuntimeInput('sequenceLengths', 'int32', ['batch']);
  readonly total = new RuntimeInput('totalLength', 'int32', []);
  forward(x: Tensor): Tensor {
    const [keyCache, valueCache, sequenceLengths, totalLength] = [this.keys, this.values, this.lengths, this.total];
    const inputs = { keyCache, valueCache, queryStart: sequenceLengths, sequenceLengths, totalLength };
    const y = ops.attention({ query: x, key: x, value: x, ...inputs }, { numHeads: 1, numKvHeads: 1, headDim: 2, scale: 1 });
    return this.inner.forward(ops.sigmoid({ x: y }));
  }
}

const { graph } = captureModel(new Model(), {
  inputs: { x: { dtype: 'float32', dims: [Dim.symbol('batch'), Dim.symbol('sequence'), Dim.of(2)] } },
  call: (model, { x }) => ({ y: model.forward(x) }),
});
const [attention, sigmoid, region] = graph.nodes as [OpNode, OpNode, RegionNode];
const stray = { id: 99, dtype: 'float32', dims: dimsOf([2]) } as const;

test('a captured graph is valid', () => {
  expect(() => verifyGraph(graph)).not.toThrow();
});

describe('a broken graph is refused, and the node is named', () => {
  test.each<[string, Partial<Graph>, string, string]>([
    ['nodes out of order', { nodes: [sigmoid, attention, region] }, 'used before it is defined', 'sigmoid at '],
    ['a value that nothing defines', { nodes: [attention, { ...sigmoid, inputs: { x: stray } }] }, '99 is used before', 'sigmoid at '],
    ['a node that comes twice', { nodes: [attention, sigmoid, sigmoid, region] }, 'defined twice', 'sigmoid at '],
    ['an input that comes twice', { inputs: [...graph.inputs, ...graph.inputs] }, 'defined twice', 'input x'],
    ['an output without a definition', { outputs: [{ name: 'y', value: stray }] }, 'not defined', 'output y'],
    ['a wrong shape', { nodes: [attention, { ...sigmoid, outputs: [stray] }] }, 'its op gives float32[batch, sequence, 2]', 'sigmoid at '],
    ['a missing output', { nodes: [attention, { ...sigmoid, outputs: [] }] }, 'It has 0 outputs, its op gives 1', 'sigmoid at '],
    [
      'a write to something other than a runtime input',
      {
        inputs: [...graph.inputs, { name: 'cache', value: graph.runtimeInputs[0]!.value }],
        runtimeInputs: graph.runtimeInputs.slice(1),
        nodes: [attention],
        outputs: [],
      },
      'which is not a runtime input',
      'attention at ',
    ],
    [
      'two writers of one runtime input',
      { nodes: [{ ...attention, inputs: { ...attention.inputs, valueCache: attention.inputs['keyCache']! } }], outputs: [] },
      'which another node writes too',
      'attention at ',
    ],
    [
      'a region with too few inputs',
      { nodes: [attention, sigmoid, { ...region, inputs: [] }] },
      '0 inputs, its region 1',
      'region#0 at inner',
    ],
    [
      'a region with another type of input',
      { nodes: [attention, sigmoid, { ...region, inputs: [graph.runtimeInputs[2]!.value] }] },
      'Its input 0 is int32[batch], its region says float32[batch, sequence, 2]',
      'region#0 at inner',
    ],
    [
      'a region with another output',
      { nodes: [attention, sigmoid, { ...region, outputs: [stray] }] },
      'Its output 0 is float32[2]',
      'region#0 at inner',
    ],
  ])('%s', (_what, change, words, where) => {
    const broken = { ...graph, ...change };
    expect(() => verifyGraph(broken)).toThrow(GraphInvalidError);
    expect(() => verifyGraph(broken)).toThrow(words);
    expect(() => verifyGraph(broken)).toThrow(expect.objectContaining({ where: expect.stringContaining(where) }));
  });
});
