import type { HostTensor } from '../backend.ts';
import { dot, topIndices } from './dense.ts';
import { sigmoidOf, siluOf } from './elementwise.ts';
import { asRows, float32, floatsOf } from './host-tensor.ts';
import type { Kernel } from './kernel.ts';
import { softmax } from './reductions.ts';

/** Token by token, expert by expert. */
export const fusedMoe: Kernel<'fusedMoe'> = ({ x, routerLogits, w13, w2, w13Bias, w2Bias }, { topK, routing, activation }) => {
  const { rows, columns: hidden } = asRows(x);
  const experts = w13.dims[0]!;
  const intermediate = w2.dims[2]!;
  const [source, logits] = [floatsOf(x), floatsOf(routerLogits)];
  const [gateUp, down] = [expertLinear(w13, w13Bias), expertLinear(w2, w2Bias)];
  const result = new Float32Array(source.length);
  for (let token = 0; token < rows; token++) {
    const scores = logits.subarray(token * experts, (token + 1) * experts);
    const chosen = topIndices(scores, topK);
    const shares =
      routing === 'softmax' ? softmax(Float64Array.from(scores)) : softmax(Float64Array.from(chosen, (expert) => scores[expert]!));
    const sum = new Float64Array(hidden);
    for (const [i, expert] of chosen.entries()) {
      const [inputWeight, weight] =
        routing === 'sigmoidInput' ? [sigmoidOf(scores[expert]!), 1] : [1, shares[routing === 'softmax' ? expert : i]!];
      const input = source.subarray(token * hidden, (token + 1) * hidden).map((value) => value * inputWeight);
      const active = Float32Array.from({ length: intermediate }, (_, at) =>
        gated(gateUp(input, expert, at), gateUp(input, expert, intermediate + at), activation),
      );
      for (let at = 0; at < hidden; at++) sum[at]! += weight * down(active, expert, at);
    }
    result.set(sum, token * hidden);
  }
  return [float32(x.dims, result)];
};

/** Output `at` of an expert's linear layer. */
function expertLinear(weight: HostTensor, bias: HostTensor | null): (x: Float32Array, expert: number, at: number) => number {
  const [, size, columns] = weight.dims as [number, number, number];
  const [factors, offsets] = [floatsOf(weight), bias === null ? null : floatsOf(bias)];
  return (x, expert, at) => dot(x, 0, factors, (expert * size + at) * columns, columns) + (offsets?.[expert * size + at] ?? 0);
}

function gated(gate: number, up: number, activation: Parameters<Kernel<'fusedMoe'>>[1]['activation']): number {
  if (activation.kind === 'silu') return siluOf(gate) * up;
  const { alpha, limit } = activation;
  const clamped = Math.min(gate, limit);
  return (Math.max(-limit, Math.min(up, limit)) + 1) * clamped * sigmoidOf(alpha * clamped);
}
