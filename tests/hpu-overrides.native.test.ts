// What the overrides patch changes no number where the whole model is one graph of ONNX Runtime. It fuses another first norm where
// there are zeros to add, so 1e-5 is of the largest logit: dense-tiny's are up to 22, and differ by up to 3.3e-5.
import { test } from 'vitest';
import { expectAlike, runVariants, textCases } from '../packages/llama4-hpu/src/run-variants.fixture.ts';

const plugin = new URL('./ort-hpu.fixture.ts', import.meta.url).href;

test.each(textCases)(
  '%s: upstream, upstream-equivalent and default give equal logits, residual streams and greedy ids, compiled whole for the CPU',
  { timeout: 60_000 },
  async (name) => expectAlike(await runVariants(name, plugin), 'largest'),
);
