import type { Backend, CompileOptions, Program, StaticBackend, StaticOptions, StaticProgram } from './backend.ts';
import type { CapturedModel } from './capture/capture.ts';
import { InterpretedProgram } from './interpreter/program.ts';
import type { Module } from './nn/module.ts';

/** Runs a captured graph node by node: values in float32, sums of products in float64. Slow and simple, the oracle for other backends. */
export class InterpreterBackend implements Backend, StaticBackend {
  readonly name = 'interpreter';
  readonly movesCacheRows = true;

  /** @throws ParameterWithoutStorageError for a weight without values, RuntimeBindingError, OpNotLoweredError. */
  async compile(model: CapturedModel, options: CompileOptions): Promise<Program> {
    options.signal?.throwIfAborted();
    const program = new InterpretedProgram(options);
    await program.add('', () => model);
    options.onProgress?.(1, 'ready');
    const { graphs, weightBytes, cacheBytes } = program.facts;
    return {
      facts: { graphs, weightBytes, cacheBytes },
      rowsMayAgree: true,
      run: (step) => program.run('', step),
      moveCacheRows: (moves) => program.moveCacheRows(moves),
      [Symbol.dispose]: () => program[Symbol.dispose](),
    };
  }

  /** Keeps no recipes. @throws ParameterWithoutStorageError */
  async open(model: Module, options: StaticOptions): Promise<StaticProgram> {
    options.signal?.throwIfAborted();
    return new InterpretedProgram(
      options,
      [...model.namedParameters(), ...model.namedBuffers()].map(([, weight]) => weight),
    );
  }
}
