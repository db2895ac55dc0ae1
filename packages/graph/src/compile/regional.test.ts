import { describe, expect, test } from 'vitest';
import type { HostTensor } from '../backend.ts';
import { captureModel } from '../capture/capture.ts';
import type { Value } from '../graph.ts';
import { float32 } from '../interpreter/host-tensor.ts';
import { runGraph } from '../interpreter/run.ts';
import { Sizes } from '../interpreter/sizes.ts';
import { InterpreterBackend } from '../interpreter.ts';
import { ModuleList } from '../nn/containers.ts';
import { Module } from '../nn/module.ts';
import { Parameter } from '../nn/parameter.ts';
import { memoryStorage } from '../nn/storage.ts';
import { ops } from '../ops/index.ts';
import { Dim } from '../shape.ts';
import type { Tensor } from '../tensor.ts';
import { planRegions, type RegionPlan } from './regional.ts';

function weight(seed: number): Parameter {
  const parameter = new Parameter([4]);
  parameter.setStorage(memoryStorage('float32', [4], { data: Float32Array.of(seed, 1, -seed, 0.5) }));
  return parameter;
}

class Scale extends Module {
  readonly weight: Parameter;
  constructor(seed: number) {
    super();
    this.weight = weight(seed);
  }
  forward(x: Tensor): Tensor {
    return ops.mul({ a: x, b: this.weight });
  }
}

class Block extends Module {
  static override readonly region = { name: 'block', inputs: ['x'] };
  readonly scale: Scale;
  constructor(seed: number) {
    super();
    this.scale = new Scale(seed);
  }
  forward(x: Tensor): Tensor {
    return ops.add({ a: x, b: this.scale.forward(x) });
  }
}

/** A scale stands between two blocks, and the output of the first block is also a result. */
class Model extends Module {
  readonly blocks = new ModuleList([1, 2, 3].map((seed) => new Block(seed)));
  readonly between = new ModuleList([4, 5].map((seed) => new Scale(seed)));
  readonly last: Scale;
  constructor() {
    super();
    this.last = this.between[0]!; // tied
  }
  forward(x: Tensor): { y: Tensor; first: Tensor; same: Tensor } {
    const first = this.blocks[0]!.forward(x);
    let y = this.between[0]!.forward(first);
    y = this.blocks[1]!.forward(y);
    y = this.between[1]!.forward(y);
    y = this.blocks[2]!.forward(y);
    return { y: this.last.forward(y), first, same: x };
  }
}

const captured = (call = (m: Model, x: Tensor): Record<string, unknown> => m.forward(x)) =>
  captureModel(new Model(), { inputs: { x: { dtype: 'float32', dims: [Dim.of(2), Dim.of(4)] } }, call: (m, { x }) => call(m, x) });

/** Runs a plan as a device would, with the interpreter for each region. */
function run({ inputs, calls, outputs }: RegionPlan, given: Record<string, HostTensor>): Record<string, HostTensor> {
  const values = new Map<Value, HostTensor>(inputs.map(({ name, value }) => [value, given[name]!]));
  for (const { region, weights, inputs, outputs } of calls) {
    const given = new Map<Value, HostTensor>();
    for (const [i, { value }] of region.graph.inputs.entries()) given.set(value, values.get(inputs[i]!)!);
    for (const [i, { value }] of region.graph.weights.entries())
      given.set(value, float32(weights[i]!.source.shape, weights[i]!.source.toFloat32()));
    const results = runGraph(region.graph, given, new Sizes());
    for (const [i, value] of outputs.entries()) values.set(value, results[i]!);
  }
  return Object.fromEntries(outputs.map(({ name, value }) => [name, values.get(value)!]));
}

const x = float32([2, 4], Float32Array.of(1, 2, 3, 4, -1, 0, 7, 0.5));

describe('planRegions', () => {
  test('ops between regions become segments, and segments that differ only in weights are one region', () => {
    const { calls } = planRegions(captured());
    expect(calls.map(({ region, path, weights }) => [region.name, path, ...weights.map((each) => each.path)])).toEqual([
      ['block#0', 'blocks.0', 'blocks.0.scale.weight'],
      ['segment#0', '', 'between.0.weight'],
      ['block#0', 'blocks.1', 'blocks.1.scale.weight'],
      ['segment#0', '', 'between.1.weight'],
      ['block#0', 'blocks.2', 'blocks.2.scale.weight'],
      ['segment#1', '', 'last.weight'], // also gives the model's input on
    ]);
    expect(calls[5]!.weights[0]!.source).toBe(calls[1]!.weights[0]!.source);
  });

  test('the calls in order give the results of the whole graph', async () => {
    const model = captured();
    using program = await new InterpreterBackend().compile(model, {
      kvSlots: 1,
      bindRuntimeInput: (path) => {
        throw new Error(`no runtime input expected, got ${path}`);
      },
    });
    const expected = await program.run({ firstSlot: 0, batch: 1, inputs: { x } });
    expect(run(planRegions(model), { x })).toEqual(expected);
  });

  test('segments of another op, attribute or shape are separate regions', () => {
    const names = (call: (m: Model, x: Tensor) => Record<string, unknown>): string[] =>
      planRegions(captured(call))
        .calls.filter(({ path }) => path === '')
        .map(({ region }) => region.name);
    const around = (between: (x: Tensor) => Tensor) =>
      names((m, x) => ({ y: between(m.blocks[1]!.forward(between(m.blocks[0]!.forward(x)))) }));
    expect(around((x) => ops.mulScalar({ x }, { value: 2 }))).toEqual(['segment#0', 'segment#0']);
    let factor = 1;
    expect(around((x) => ops.mulScalar({ x }, { value: factor++ }))).toEqual(['segment#0', 'segment#1']);
    let swapped = false;
    const swap = (x: Tensor): Tensor => {
      swapped = !swapped;
      return swapped ? ops.sigmoid({ x }) : ops.floor({ x });
    };
    expect(around(swap)).toEqual(['segment#0', 'segment#1']);
  });

  test('a weight that a region gets as an argument, or that is a result, goes through a segment', () => {
    const { calls, outputs } = planRegions(
      captured((m) => ({ y: m.blocks[0]!.forward(m.last.weight as unknown as Tensor), raw: m.last.weight })),
    );
    expect(calls.map(({ region, weights }) => [region.name, ...weights.map(({ path }) => path)])).toEqual([
      ['segment#0', 'last.weight'],
      ['block#0', 'blocks.0.scale.weight'],
      ['segment#0', 'last.weight'],
    ]);
    const made = new Set(calls.flatMap((call) => call.outputs));
    expect(outputs.every(({ value }) => made.has(value))).toBe(true);
  });
});
