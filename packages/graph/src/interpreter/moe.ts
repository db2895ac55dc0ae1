import { dot, topIndices } from './dense.ts';
import { sigmoidOf, siluOf } from './elementwise.ts';
import { asRows, float32, floatsOf } from './host-tensor.ts';
import type { Kernel } from './kernel.ts';

/** Token by token, expert by expert. */
export const fusedMoe: Kernel<'fusedMoe'> = ({ x, routerLogits, w13, w2 }, { topK }) => {
  const { rows, columns: hidden } = asRows(x);
  const experts = w13.dims[0]!;
  const intermediate = w2.dims[2]!;
  const [source, logits, gateUp, down] = [floatsOf(x), floatsOf(routerLogits), floatsOf(w13), floatsOf(w2)];
  const result = new Float32Array(source.length);
  for (let token = 0; token < rows; token++) {
    const scores = logits.subarray(token * experts, (token + 1) * experts);
    const sum = new Float64Array(hidden);
    for (const expert of topIndices(scores, topK)) {
      const weight = sigmoidOf(scores[expert]!);
      const input = source.subarray(token * hidden, (token + 1) * hidden).map((value) => value * weight);
      const first = expert * 2 * intermediate;
      const active = new Float32Array(intermediate);
      for (let i = 0; i < intermediate; i++) {
        const gate = dot(input, 0, gateUp, (first + i) * hidden, hidden);
        active[i] = siluOf(gate) * dot(input, 0, gateUp, (first + intermediate + i) * hidden, hidden);
      }
      for (let i = 0; i < hidden; i++) sum[i]! += dot(active, 0, down, (expert * hidden + i) * intermediate, intermediate);
    }
    result.set(sum, token * hidden);
  }
  return [float32(x.dims, result)];
};
