// L12: a model with images, from pixels to logits, against the published implementation.
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { cpu, interpreter } from './parity/backends.ts';
import { readReferenceCase } from './parity/reference-case.ts';
import { runImageCase } from './parity/run-image-case.ts';
import { root } from './sources.ts';

test.each([interpreter, cpu])('L12 image features, logits and greedy ids of vision-tiny on $name', async (backend) => {
  const { passed, line } = await runImageCase(await readReferenceCase(join(root, 'tests/parity/cases/vision-tiny')), backend);
  expect(passed, line).toBe(true);
});
