import { fileURLToPath } from 'node:url';
import { Lowerings, verifyOps, verifyPlatformOps } from '@graft/engine';
import { defineOp, InterpreterBackend, ops } from '@graft/graph';
import type { OnnxLowering } from '@graft/onnx-export';
import { definePlugin } from '@graft/registry';
import { expect, test } from 'vitest';
import { z } from 'zod';
import { OrtBackend } from './ort-backend.ts';

const root = fileURLToPath(new URL('../../../', import.meta.url));

test('every op gives on cpu what the interpreter gives', async () => {
  const checks = await verifyOps(new OrtBackend(), Object.values(ops));
  expect(checks.filter(({ held }) => !held)).toEqual([]);
  expect(new Set(checks.map(({ op }) => op))).toEqual(new Set(Object.keys(ops)));
  expect(checks.filter(({ sample }) => sample === null)).toEqual([]);
});

test('a spoilt lowering is found, alone', async () => {
  const spoilt: OnnxLowering<typeof ops.rmsNorm> = {
    op: ops.rmsNorm,
    platform: 'cpu',
    lower: ({ inputs: { x } }, c) => [c.name(x)],
  };
  const checks = await verifyOps(new OrtBackend({ lowerings: [spoilt] }), Object.values(ops));
  expect(new Set(checks.filter(({ held }) => !held).map(({ op }) => op))).toEqual(new Set(['rmsNorm']));
});

test('a tolerance is that of the lowering', async () => {
  const lax: OnnxLowering<typeof ops.floor> = {
    op: ops.floor,
    platform: 'cpu',
    tolerance: 1.5,
    lower: ({ inputs: { x } }, c) => [c.op('Ceil', [c.name(x)])],
  };
  const [check] = await verifyOps(new OrtBackend({ lowerings: [lax] }), [ops.floor]);
  expect(check).toMatchObject({ op: 'floor', by: 'lowering', tolerance: 1.5, held: true, difference: 1 });
  expect((await verifyOps(new InterpreterBackend(), [ops.floor]))[0]).toMatchObject({ difference: 0, held: true });
});

test('a lowering that a plugin binds is what a platform runs, and its op is verified with the others', async () => {
  const attributes = z.strictObject({});
  const infer = ({ x }: { x: Parameters<typeof ops.floor.inferTypes>[0][string] & object }) => x;
  const twice = defineOp({
    name: 'twice',
    plugin: 'acme',
    inputs: ['x'],
    attributes,
    infer,
    samples: [{}],
    decompose: ({ x }) => x.add(x),
  });
  const lowerings: OnnxLowering[] = [
    { op: twice, platform: 'cpu', lower: ({ inputs: { x } }, c) => [c.op('Add', [c.name(x!), c.name(x!)])] },
    { op: ops.floor, platform: 'cpu', lower: ({ inputs: { x } }, c) => [c.op('Neg', [c.name(x!)])] },
    { op: ops.log, platform: 'hpu', lower: ({ inputs: { x } }, c) => [c.op('Neg', [c.name(x!)])] },
  ];
  const acme = definePlugin({
    name: 'acme',
    bind(bind) {
      for (const lowering of lowerings) bind.many(Lowerings).toConstantValue(lowering);
    },
  });
  const checks = await verifyPlatformOps({ app: root, plugins: ['@graft/cpu'] }, 'cpu', { pluginsInCode: [acme] });
  expect(checks.filter(({ held }) => !held).map(({ op }) => op)).toEqual(['floor']);
  expect(checks.find(({ op }) => op === 'twice')).toMatchObject({ plugin: 'acme', by: 'lowering', held: true });
});
