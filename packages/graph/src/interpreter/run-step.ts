import type { HostTensor, ProgramStep } from '../backend.ts';
import type { CapturedModel } from '../capture/capture.ts';
import { follow, keysOf } from '../capture/guard.ts';
import type { Graph } from '../graph.ts';
import { joinPath } from '../nn/module.ts';
import type { Buffer, Parameter } from '../nn/parameter.ts';
import { runGraph } from './run.ts';
import { inputOf, type RuntimeTensors } from './runtime-tensors.ts';
import { Sizes } from './sizes.ts';

/**
 * Runs one step of a captured model.
 * @param weight by full path.
 * @returns the outputs by name.
 */
export function runStep(
  graph: Graph,
  runtime: RuntimeTensors,
  step: ProgramStep,
  weight: (path: string) => HostTensor,
): Record<string, HostTensor> {
  const sizes = new Sizes();
  const inputs = graph.inputs.map(({ name, value }) => {
    const tensor = inputOf(step, name);
    sizes.bindTensor(tensor, value, `input "${name}"`);
    return tensor;
  });
  const outputs = runGraph(graph, '', inputs, { sizes, runtimeInputs: runtime.bind(step, sizes), weight, signal: step.signal });
  return Object.fromEntries(graph.outputs.map(({ name }, i) => [name, outputs[i]!]));
}

/** By full path, what the graph and its regions read. */
export function weightsOf({ root, graph }: CapturedModel): Map<string, Parameter | Buffer> {
  const found = new Map<string, Parameter | Buffer>();
  const take = (path: string, weights: Graph['weights']): void => {
    const module = follow(root, keysOf(path)) as object;
    for (const weight of weights) found.set(joinPath(path, weight.path), follow(module, keysOf(weight.path)) as Parameter | Buffer);
  };
  take('', graph.weights);
  for (const node of graph.nodes) if (node.kind === 'region') take(node.path, node.region.graph.weights);
  return found;
}
