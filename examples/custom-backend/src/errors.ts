import { GraftError, messageOf } from '@graft/common';

/** ONNX Runtime Web refused the graph, or its memory of 4 GiB is full. */
export class WasmCompileError extends GraftError {
  constructor(weightBytes: number, cause: unknown) {
    super({
      code: 'GRAFT_WASM_COMPILE',
      what: `ONNX Runtime Web made no session of the model: ${messageOf(cause).replace(/\.*$/, '.')}`,
      where: `a graph with ${(weightBytes / 2 ** 20).toFixed(0)} MiB of weights`,
      fix: 'take a model whose weights fit into 4 GiB in float32, or another platform.',
      cause,
    });
  }
}
