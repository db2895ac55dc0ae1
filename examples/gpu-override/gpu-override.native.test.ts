import { verifyOps } from '@graft/engine';
import { GgmlBackend } from '@graft/gpu/api';
import { expect, test } from 'vitest';
import { gatedLinear, lowering } from './plugin.ts';

test.each([
  ['lowering', [lowering]],
  ['decomposition', []],
] as const)('the op gives by its %s what the interpreter gives, for both activations', async (by, lowerings) => {
  const checks = await verifyOps(new GgmlBackend({ lowerings }), [gatedLinear]);
  expect(checks).toHaveLength(2);
  for (const check of checks) expect(check).toMatchObject({ by, failure: null, held: true });
});
