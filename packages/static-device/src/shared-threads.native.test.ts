import { readdirSync } from 'node:fs';
import { expect, test } from 'vitest';
import { buckets, captureBucket, openCase } from './device-model.fixture.ts';
import { EmulatedBackend } from './emulated-backend.ts';

// In a file of its own, because a process has one ONNX Runtime environment and the first one decides about threads.

const threadsOfProcess = (): number => readdirSync('/proc/self/task').length;

test('all graphs share one pool of threads, which is gone with the last program', async () => {
  const opened = await openCase('scout-tiny');
  const backend = new EmulatedBackend({ mode: 'compile', threads: 5 });
  const program = await backend.open(opened.model, { bindRuntimeInput: opened.bindRuntimeInput, kvSlots: 3, recipeDirectory: null });
  const [first = '', ...others] = buckets;
  await program.add(first, () => captureBucket(opened, first));
  const pool = threadsOfProcess();
  for (const bucket of others) await program.add(bucket, () => captureBucket(opened, bucket));
  expect(program.facts.graphs).toBe(20);
  expect(threadsOfProcess()).toBe(pool);
  program[Symbol.dispose]();
  expect(threadsOfProcess()).toBe(pool - 4); // the thread that calls a run is the fifth
});
