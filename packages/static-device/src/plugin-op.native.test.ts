import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { captureModel, Dim, defineOp, Module, ops, type Tensor } from '@graft/graph';
import type { OnnxLowering } from '@graft/onnx-export';
import { expect, test } from 'vitest';
import { z } from 'zod';
import { EmulatedBackend } from './emulated-backend.ts';

const declaration = { inputs: ['x'], plugin: 'acme', attributes: z.strictObject({}) } as const;
const infer = ({ x }: { x: Parameters<typeof ops.floor.inferTypes>[0][string] & object }) => x;
const twice = defineOp({ ...declaration, infer, name: 'twice', decompose: ({ x }) => x.add(x) });
const kernelOnly = defineOp({ ...declaration, infer, name: 'kernelOnly', kernel: ({ x }) => [x] });

/** Wrong on purpose, so that its use shows. */
const negated: OnnxLowering<typeof twice> = { op: twice, platform: 'npu', lower: ({ inputs: { x } }, c) => [c.op('Neg', [c.name(x)])] };
const squared: OnnxLowering<typeof twice> = { ...negated, lower: ({ inputs: { x } }, c) => [c.op('Mul', [c.name(x), c.name(x)])] };

class Model extends Module {
  readonly op: typeof twice;
  constructor(op: typeof twice) {
    super();
    this.op = op;
  }
  forward(x: Tensor): Tensor {
    return this.op({ x }, {}).add(1);
  }
}

/** What the op gives for 3, and 1 more. */
async function run(lowerings: OnnxLowering[], op = twice, recipeDirectory: string | null = null) {
  const model = new Model(op);
  const backend = new EmulatedBackend({ mode: 'lazy', threads: 1, platform: 'npu', lowerings });
  using program = await backend.open(model, { kvSlots: 1, recipeDirectory, bindRuntimeInput: () => ({ kind: 'cache', rows: 1 }) });
  const inputs = { x: { dtype: 'float32', dims: [Dim.of(1)] } } as const;
  await program.add('1', () => captureModel(model, { inputs, call: (m, { x }) => ({ y: m.forward(x) }) }));
  const x = { dtype: 'float32', dims: [1], data: Float32Array.of(3) } as const;
  const { y } = await program.run('1', { firstSlot: 0, batch: 1, inputs: { x } });
  return { y: y!.data[0], recipes: program.facts.recipes };
}

test("a plugin's op runs by its lowering for the platform, and by its decomposition without one", async () => {
  expect(await run([])).toMatchObject({ y: 7 });
  expect(await run([negated])).toMatchObject({ y: -2 });
  expect(await run([{ ...negated, platform: 'cpu' }])).toMatchObject({ y: 7 });
  expect(await run([{ ...negated, supports: () => false }])).toMatchObject({ y: 7 });
});

test("a plugin's lowering of one of our ops is taken in place of ours", async () => {
  const add: OnnxLowering<typeof ops.addScalar> = { op: ops.addScalar, platform: 'npu', lower: ({ inputs: { x } }, c) => [c.name(x)] };
  expect(await run([add as OnnxLowering])).toMatchObject({ y: 6 });
});

test('an op with neither is one error with its place, name, plugin and platform', async () => {
  await expect(run([], kernelOnly as never)).rejects.toMatchObject({
    code: 'GRAFT_OP_NOT_LOWERED',
    what: expect.stringMatching(/"npu" has no lowering of the op "kernelOnly" of plugin "acme"/),
  });
});

test('a recipe of another lowering is not taken', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'graft-lowerings-'));
  try {
    expect(await run([negated], twice, folder)).toEqual({ y: -2, recipes: 0 });
    expect(await run([negated], twice, folder)).toEqual({ y: -2, recipes: 1 });
    expect(await run([squared], twice, folder)).toEqual({ y: 10, recipes: 0 });
  } finally {
    rmSync(folder, { recursive: true });
  }
});
