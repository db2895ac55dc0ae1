import { type Backend, type CapturedModel, type CompileOptions, InterpreterBackend, inlineRegions, type Program } from '@graft/graph';

/**
 * Turns a captured model into a program. The interpreter runs it for now, slowly and simply. Replace it with your device's compiler, and keep it in the
 * tests as the reference.
 */
export class MyBackend implements Backend {
  readonly name = 'my-backend';
  private readonly device = new InterpreterBackend();

  async compile(model: CapturedModel, options: CompileOptions): Promise<Program> {
    const ops = opsOf(model);
    options.onProgress?.(0, `${ops.length} kinds of op`);
    return this.device.compile(model, options);
  }
}

/** The ops of all layers as one graph, each once: what a compiler has to lower. */
export function opsOf(model: CapturedModel): string[] {
  const { nodes } = inlineRegions(model);
  return [...new Set(nodes.flatMap((node) => (node.kind === 'op' ? [node.op.name] : [])))].sort();
}
