import { NativeResource } from '@graft/common';
import koffi from 'koffi';
import { statusCodes, tensorLayout } from './binding.ts';
import type { Device } from './device.ts';
import { GgmlBusyError, GgmlCallError } from './errors.ts';
import type { Graph, GraphInputs } from './graph.ts';
import { ggml, type Handle } from './library.ts';
import { TensorArena } from './tensor.ts';

export interface StreamOptions {
  /** Threads of a device of type CPU. More of them than free cores are much slower, because they spin at each node. */
  threads: number;
}

/** More than the struct of a thread pool's parameters has. */
const threadParameterBytes = 2048;

/** Computes graphs on a device, one at a time. */
export class Stream extends NativeResource {
  readonly device: Device;
  private readonly handle: Handle<'backend'>;
  private readonly threads: Handle<'threadpool'> | null = null;
  private readonly flags = new TensorArena();
  /** ggml asks whether this tensor is empty, and stops if so: an answer that needs no JavaScript. */
  private readonly going = this.flags.tensor('I32', [1]);
  private busy = false;

  /** @throws GgmlCallError */
  constructor(device: Device, { threads }: StreamOptions) {
    super();
    const { calls } = ggml();
    this.device = device;
    this.handle = ggml().logged(`${device.name} does not start.`, device.description, () => calls.ggml_backend_dev_init(device.handle, ''));
    if (device.type !== 'CPU') return;
    const parameters = new Uint8Array(threadParameterBytes);
    calls.ggml_threadpool_params_init(parameters as never, threads);
    this.threads = calls.ggml_threadpool_new(parameters as never);
    calls.ggml_backend_cpu_set_n_threads(this.handle, threads);
    calls.ggml_backend_cpu_set_threadpool(this.handle, this.threads);
    calls.ggml_backend_cpu_set_abort_callback(this.handle, ggml().addressOf('ggml_is_empty'), this.going.handle);
  }

  /**
   * Computes off the event loop. An abort stops at the next node on a CPU; elsewhere the computation ends first.
   * @throws GgmlTensorError for a wrong input, before anything runs; GgmlBusyError; GgmlCallError; DisposedError; the signal's reason
   */
  async compute(graph: Graph, inputs: GraphInputs, signal?: AbortSignal): Promise<void> {
    signal?.throwIfAborted();
    this.assertUsable();
    if (this.busy) throw new GgmlBusyError();
    graph.fill(inputs);
    this.busy = true;
    this.retain();
    graph.retain();
    const stop = (): void => this.setGoing(0n);
    signal?.addEventListener('abort', stop, { once: true });
    using _ = ggml().aborts.computing(() => `${graph} on ${this.device.name}`);
    try {
      const status = await ggml().callAsync('ggml_backend_graph_compute', this.handle, graph.handle);
      signal?.throwIfAborted();
      if (status !== statusCodes.SUCCESS) {
        const name = Object.entries(statusCodes).find(([, code]) => code === status)?.[0] ?? status;
        throw new GgmlCallError({ what: `${this.device.name} did not compute the graph (${name}).`, where: 'ggml_backend_graph_compute' });
      }
    } finally {
      signal?.removeEventListener('abort', stop);
      this.setGoing(1n);
      this.busy = false;
      graph.release();
      this.release();
    }
  }

  protected override describe(): string {
    return `The stream of ${this.device.name}`;
  }

  protected override free(): void {
    const { calls } = ggml();
    calls.ggml_backend_free(this.handle);
    if (this.threads !== null) calls.ggml_threadpool_free(this.threads);
    this.flags[Symbol.dispose]();
  }

  private setGoing(size: bigint): void {
    koffi.encode(this.going.handle, tensorLayout.offsets.ne, 'int64_t', size);
  }
}
