import { Disposables, DisposedError } from '@graft/common';
import type { Environment, Session } from '@graft/onnxruntime';

/** The compiled graphs of a program, each once, by the hash of its ONNX model before it was optimised. */
export class DeviceGraphs implements Disposable {
  private readonly environment: Environment;
  /** Of each graph; null: all graphs share the environment's pool. */
  private readonly ownThreads: number | null;
  private readonly resources = new Disposables();
  private readonly sessions = new Map<string, Session>();
  private optimised = 0;

  constructor(environment: Environment, threads: number) {
    this.environment = environment;
    this.ownThreads = environment.sharesThreads ? null : threads;
  }

  get count(): number {
    return this.sessions.size;
  }

  /** Graphs that this process has optimised. */
  get optimisations(): number {
    return this.optimised;
  }

  get all(): ReadonlyMap<string, Session> {
    return this.sessions;
  }

  /** Compiles a graph. @param optimisedPath where the optimised model is written, or null. */
  async compile(graph: string, model: Uint8Array, optimisedPath: string | null, signal?: AbortSignal): Promise<void> {
    await this.open(
      graph,
      model,
      { graphOptimization: 'all', ...(optimisedPath !== null && { optimizedModelPath: optimisedPath }) },
      signal,
    );
    this.optimised += 1;
  }

  /** Loads a graph that was optimised before. */
  async load(graph: string, optimised: Uint8Array, signal?: AbortSignal): Promise<void> {
    await this.open(graph, optimised, { graphOptimization: 'off' }, signal);
  }

  private async open(
    graph: string,
    model: Uint8Array,
    options: { graphOptimization: 'all' | 'off'; optimizedModelPath?: string },
    signal?: AbortSignal,
  ): Promise<void> {
    const session = await this.environment.createSessionAsync(model, {
      ...options,
      ...(this.ownThreads !== null && { intraOpThreads: this.ownThreads }),
      ...(signal !== undefined && { signal }),
    });
    if (this.resources.disposed) {
      session[Symbol.dispose]();
      throw new DisposedError('The program');
    }
    this.sessions.set(graph, this.resources.use(session));
  }
  [Symbol.dispose](): void {
    this.resources[Symbol.dispose]();
  }
}
