import { Disposables, DisposedError } from '@graft/common';
import type { Environment, RunOptions, Session, SessionOptions } from '@graft/onnxruntime';

/** The compiled graphs of a program, by the hash of the ONNX model before it was optimised. */
export class DeviceGraphs implements Disposable {
  private readonly environment: Environment;
  /** For each graph; undefined when all graphs share the environment's threads. */
  private readonly intraOpThreads: number | undefined;
  private readonly resources = new Disposables();
  readonly all = new Map<string, Session>();
  /** The number of graphs that this process has optimised. */
  optimisations = 0;

  constructor(environment: Environment, threads: number) {
    this.environment = environment;
    this.intraOpThreads = environment.sharesThreads ? undefined : threads;
  }

  /** Compiles a graph, and writes the optimised model to `optimizedModelPath`. */
  async compile(graph: string, model: Uint8Array, optimizedModelPath?: string, signal?: AbortSignal): Promise<void> {
    await this.open(graph, model, { graphOptimization: 'all', optimizedModelPath, signal });
    this.optimisations += 1;
  }

  /** Loads a graph that an earlier process has optimised. */
  async load(graph: string, optimised: Uint8Array, signal?: AbortSignal): Promise<void> {
    await this.open(graph, optimised, { graphOptimization: 'off', signal });
  }

  [Symbol.dispose](): void {
    this.resources[Symbol.dispose]();
  }

  private async open(graph: string, model: Uint8Array, options: SessionOptions & RunOptions): Promise<void> {
    const session = await this.environment.createSession(model, { ...options, intraOpThreads: this.intraOpThreads });
    if (this.resources.disposed) {
      session[Symbol.dispose]();
      throw new DisposedError('The program');
    }
    this.all.set(graph, this.resources.use(session));
  }
}
