import { verifyOps } from '@graft/engine';
import { ops } from '@graft/graph';
import { expect, test } from 'vitest';
import { GgmlBackend } from './index.ts';

test('every op gives on ggml what the interpreter gives', async () => {
  const checks = await verifyOps(new GgmlBackend({ cacheType: 'F32' }), Object.values(ops));
  expect(checks.filter(({ held }) => !held)).toEqual([]);
  expect(new Set(checks.map(({ op }) => op))).toEqual(new Set(Object.keys(ops)));
});
