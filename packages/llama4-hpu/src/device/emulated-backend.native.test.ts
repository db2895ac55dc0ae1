import { CaptureCache, type StaticProgram } from '@graft/graph';
import { describe, expect, test } from 'vitest';
import { buckets, captureBucket, difference, type OpenedCase, openCase, oracleOf, someSteps } from './device-model.fixture.ts';
import { EmulatedBackend, type StaticMode } from './emulated-backend.ts';

const places = 3;

async function open(opened: OpenedCase, mode: StaticMode, recipeDirectory: string | null = null) {
  return new EmulatedBackend({ mode, threads: 1 }).open(opened.model, { bindSlot: opened.bindSlot, places, recipeDirectory });
}

async function addAll(program: StaticProgram, opened: OpenedCase, cache = new CaptureCache()): Promise<void> {
  for (const bucket of buckets) await program.add(bucket, () => captureBucket(opened, bucket, cache));
}

describe.each(['compile', 'lazy'] as const)('mode %s', (mode) => {
  test.each(['scout-tiny', 'maverick-tiny', 'dense-tiny', 'heads10-tiny', 'top2-tiny', 'vision-tiny'])(
    '%s: padded prefill, decode and batches give what the interpreter gives',
    async (name) => {
      const opened = await openCase(name, { mode });
      using program = await open(opened, mode);
      using oracle = await oracleOf(opened, places);
      await addAll(program, opened);
      for (const { bucket, ...step } of someSteps(opened)) {
        const { logits } = await program.run(bucket, step);
        const expected = await oracle.run(step);
        expect(difference(logits!, expected['logits']!), bucket).toBeLessThan(1e-5);
      }
    },
  );
});
