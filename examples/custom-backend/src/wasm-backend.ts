import { type Backend, type CapturedModel, type CompileOptions, inlineRegions, type Program } from '@graft/graph';
import { type ExportedGraph, exportGraph } from '@graft/onnx-export';
import { decodeModel, encodeModel, GraphBuilder } from '@graft/onnxruntime';
import { env, InferenceSession } from 'onnxruntime-web';
import { WasmCompileError } from './errors.ts';
import { WasmProgram } from './wasm-program.ts';

interface WeightFile {
  path: string;
  data: Uint8Array;
}

/** The whole model as one session of ONNX Runtime Web, which holds the weights: what is given to a run is copied into WebAssembly's memory each time. */
export class WasmBackend implements Backend {
  readonly name = 'onnxruntime-web';

  /** @throws WasmCompileError; LoweringError for an op that has no form in ONNX; the signal's reason. */
  async compile(captured: CapturedModel, options: CompileOptions): Promise<Program> {
    const { bindRuntimeInput, kvSlots, signal, onProgress } = options;
    signal?.throwIfAborted();
    onProgress?.(0, 'exporting the graph');
    const exported = exportGraph(inlineRegions(captured), 'inputs', { bindRuntimeInput });
    const { model, files } = withWeights(exported);
    const weightBytes = files.reduce((sum, { data }) => sum + data.byteLength, 0);
    onProgress?.(0.3, 'making the session');
    env.wasm.numThreads = options.threads ?? 1; // what the first session of a process says is so for all
    env.logLevel = 'error';
    const session = await InferenceSession.create(model, { executionProviders: ['wasm'], externalData: files }).catch((cause: unknown) => {
      throw new WasmCompileError(weightBytes, cause);
    });
    onProgress?.(1, 'compiled');
    return new WasmProgram({ session, exported, kvSlots, weightBytes });
  }
}

/** The exported model with its weights as constants in place of inputs, and their values, each as a file of its own. */
function withWeights({ model, weights }: ExportedGraph): { model: Uint8Array; files: WeightFile[] } {
  const constants = new GraphBuilder('weights');
  const files = weights.map(({ name, slot }, index): WeightFile => {
    const { buffer, byteOffset, byteLength } = slot.source.toFloat32();
    const path = `weight-${index}`;
    constants.externalInitializer(name, 'float32', slot.shape, { location: path, byteOffset: 0, byteLength });
    return { path, data: new Uint8Array(buffer, byteOffset, byteLength) };
  });
  const names = new Set(weights.map(({ name }) => name));
  const decoded = decodeModel(model);
  decoded.graph!.input = decoded.graph!.input.filter(({ name }) => !names.has(name));
  decoded.graph!.initializer.push(...constants.graph.initializer);
  return { model: encodeModel(decoded), files };
}
