import { DisposedError } from '@graft/common';
import type { Backend, CompileOptions, HostTensor, Program, ProgramStep } from './backend.ts';
import type { CapturedModel } from './capture/capture.ts';
import { inlineRegions } from './compile/full.ts';
import type { Graph } from './graph.ts';
import { elementCount, float32 } from './interpreter/host-tensor.ts';
import { runGraph } from './interpreter/run.ts';
import { Sizes } from './interpreter/sizes.ts';
import { inputOf, SlotTensors } from './interpreter/slot-tensors.ts';
import type { Buffer, Parameter } from './nn/parameter.ts';

/**
 * Runs a captured graph node by node, a kernel an op: values in float32, sums of products in float64. Slow and obvious, the oracle for other backends.
 */
export class InterpreterBackend implements Backend {
  readonly name = 'interpreter';

  /** @throws SlotBindingError when a slot cannot have what it is bound to. */
  async compile(model: CapturedModel, options: CompileOptions): Promise<Program> {
    options.signal?.throwIfAborted();
    const program = new InterpreterProgram(model, new SlotTensors(model, options));
    options.onProgress?.(1, 'ready');
    return program;
  }
}

class InterpreterProgram implements Program {
  readonly facts: Program['facts'];
  private readonly model: CapturedModel;
  private readonly slots: SlotTensors;
  /** By identity: what several layers share is converted once. */
  private readonly weights = new Map<Parameter | Buffer, HostTensor>();
  private disposed = false;

  constructor(model: CapturedModel, slots: SlotTensors) {
    this.model = model;
    this.slots = slots;
    this.facts = { graphs: countGraphs(model.graph), weightBytes: weightBytes(model), cacheBytes: slots.cacheBytes };
  }

  /**
   * @throws ProgramInputError that names what is missing or wrong, before anything is computed; or, from an op, an index or position out of range.
   */
  async run(step: ProgramStep): Promise<Record<string, HostTensor>> {
    if (this.disposed) throw new DisposedError('This program');
    step.signal?.throwIfAborted();
    const { root, graph } = this.model;
    const sizes = new Sizes();
    const inputs = graph.inputs.map(({ name, value }) => {
      const tensor = inputOf(step, name);
      sizes.bindTensor(tensor, value, `input "${name}"`);
      return tensor;
    });
    const slots = this.slots.bind(step, sizes);
    const outputs = runGraph(graph, '', inputs, { root, sizes, slots, weight: (source) => this.weight(source), signal: step.signal });
    return Object.fromEntries(graph.outputs.map(({ name }, i) => [name, outputs[i]!]));
  }

  [Symbol.dispose](): void {
    this.disposed = true;
    this.weights.clear();
    this.slots[Symbol.dispose]();
  }

  private weight(source: Parameter | Buffer): HostTensor {
    const known = this.weights.get(source);
    if (known !== undefined) return known;
    const tensor = float32(source.shape, source.toFloat32());
    this.weights.set(source, tensor);
    return tensor;
  }
}

/** The outer graph and each distinct region. */
function countGraphs(graph: Graph): number {
  return 1 + new Set(graph.nodes.filter((node) => node.kind === 'region').map(({ region }) => region)).size;
}

/** In float32, which is what they are kept in. */
function weightBytes(model: CapturedModel): number {
  return inlineRegions(model).weights.reduce((sum, { shape }) => sum + 4 * elementCount(shape), 0);
}
