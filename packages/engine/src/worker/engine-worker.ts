import { Worker } from 'node:worker_threads';
import { GraftError, messageOf } from '@graft/common';
import { assertSamePluginSet, type PluginRecord, pluginRecord } from '@graft/registry';
import type { z } from 'zod';
import { readAnswer } from '../answer.ts';
import type { EngineConfig } from '../config.ts';
import type { Engine, EngineInfo, EngineStats, LoadProgress, ReloadOptions, ReloadReport } from '../engine.ts';
import { EngineClosedError, EngineFailureError, PluginInCodeError } from '../errors.ts';
import type { GenerateRequest, TokenDelta } from '../request.ts';
import { loadEnginePlugins, parseConfig, type StartOptions } from '../start-engine.ts';
import type { FromWorker, Reloaded, ToWorker, WorkerStart } from './protocol.ts';

/**
 * Starts the engine in a worker, so that HTTP and the terminal stay quick while a model loads and runs. Both threads find the plugins, and the worker
 * refuses to start with others than this one found.
 * @throws PluginInCodeError, PluginSetsDifferError, and what the start ends in.
 */
export async function startEngineWorker(config: z.input<typeof EngineConfig>, options: StartOptions = {}): Promise<Engine> {
  const parsed = parseConfig(config);
  options.signal?.throwIfAborted();
  const { defaultPlugins, defaultPluginsFrom, onProgress, events, signal } = options;
  const expectedPlugins = await findPlugins(parsed, options);
  signal?.throwIfAborted();
  const start: WorkerStart = {
    config,
    expectedPlugins,
    ...(defaultPlugins && { defaultPlugins }),
    ...(defaultPluginsFrom && { defaultPluginsFrom }),
  };
  const worker = new Worker(entryUrl(), { workerData: start, execArgv: [] });
  worker.on('message', (message: FromWorker) => {
    if (message.type === 'event') events?.emit(message.name, message.event);
  });
  return new Promise<Engine>((resolve, reject) => {
    const fail = (error: unknown): void => {
      settle();
      endWorker(worker);
      reject(error);
    };
    const onMessage = (message: FromWorker): void => {
      if (message.type === 'progress') onProgress?.(message.progress);
      if (message.type === 'start-failed') fail(GraftError.fromJSON(message.error));
      if (message.type !== 'ready') return;
      settle();
      resolve(new EngineWorker(worker, message.info));
    };
    const onError = (error: unknown): void => fail(workerFailure(error));
    const onExit = (code: number): void => fail(new EngineFailureError(`The engine's worker ended with code ${code} before it was ready.`));
    const onAbort = (): void => fail(signal?.reason);
    const settle = (): void => {
      worker.off('message', onMessage).off('error', onError).off('exit', onExit);
      signal?.removeEventListener('abort', onAbort);
    };
    worker.on('message', onMessage).on('error', onError).on('exit', onExit);
    signal?.addEventListener('abort', onAbort, { once: true });
  });
}

/** What the worker must find. A plugin passed in code must be among it, and be the same. */
async function findPlugins(config: EngineConfig, { pluginsInCode = [], ...options }: StartOptions): Promise<readonly PluginRecord[]> {
  const { records } = await loadEnginePlugins(config, options);
  const found = new Map(records.map((record) => [record.name, record]));
  const missing = pluginsInCode.filter(({ name }) => !found.has(name));
  if (missing.length > 0) throw new PluginInCodeError(missing.map(({ name }) => name));
  assertSamePluginSet(
    pluginsInCode.map(pluginRecord),
    pluginsInCode.map(({ name }) => found.get(name)!),
  );
  return records;
}

const graceMs = 10_000;

/**
 * Ends a worker that is not ready, so that what it holds of native memory is freed: it is asked, and ended by force only if it does not hear. Nobody waits
 * for it, but the process stays until it has gone: Node kills a worker on exit wherever it is, and native code (koffi) then takes the process down.
 */
function endWorker(worker: Worker): void {
  worker.on('error', () => undefined); // the start has its error already
  const force = setTimeout(() => void worker.terminate(), graceMs).unref();
  worker.once('exit', () => clearTimeout(force));
  worker.postMessage({ type: 'close' } satisfies ToWorker);
}

function workerFailure(error: unknown): EngineFailureError {
  return new EngineFailureError(`The engine's worker failed: ${messageOf(error)}`, error);
}

/** The entry is built JavaScript: a worker cannot start from TypeScript under vitest or tsx. */
function entryUrl(): URL {
  return import.meta.url.endsWith('.ts') ? new URL('../../dist/worker/entry.js', import.meta.url) : new URL('./entry.js', import.meta.url);
}

/** What waits for messages with its id. */
interface Pending {
  take(value: unknown): void;
  fail(error: unknown): void;
  onProgress?: ((progress: LoadProgress) => void) | undefined;
}

type WithoutId<M> = M extends { id: number } ? Omit<M, 'id'> : never;

/** The engine behind a worker thread. */
class EngineWorker implements Engine {
  private served: EngineInfo;
  private readonly worker: Worker;
  private readonly pending = new Map<number, Pending>();
  private nextId = 1;
  private ended: Promise<void>;
  private open = true;

  constructor(worker: Worker, info: EngineInfo) {
    this.worker = worker;
    this.served = info;
    worker.on('message', (message: FromWorker) => this.receive(message));
    worker.on('error', (error) => this.end(workerFailure(error)));
    this.ended = new Promise((resolve) => {
      worker.once('exit', () => {
        this.end(new EngineClosedError("The engine's worker ended."));
        resolve();
      });
    });
  }

  get info(): EngineInfo {
    return this.served;
  }

  generate(request: GenerateRequest, { signal }: { signal?: AbortSignal } = {}): AsyncGenerator<TokenDelta, void, void> {
    return readAnswer((sink) => {
      const id = this.ask(
        { type: 'generate', request },
        { take: (delta) => sink.push(delta as TokenDelta), fail: (error) => sink.fail(error) },
      );
      return () => this.abort(id);
    }, signal);
  }

  tokenize(text: string): Promise<number[]> {
    return new Promise((take, fail) => void this.ask({ type: 'tokenize', text }, { take: take as Pending['take'], fail }));
  }

  /** An abort is answered once the worker has gone back to the old weights; a reload that was done before it heard stays done. */
  async reloadWeights(model: string, { signal, onProgress }: ReloadOptions = {}): Promise<ReloadReport> {
    signal?.throwIfAborted();
    let onAbort = (): void => undefined;
    const answer = new Promise<Reloaded>((take, fail) => {
      const id = this.ask({ type: 'reload', model }, { take: take as Pending['take'], fail, onProgress });
      onAbort = () => this.send({ type: 'abort', id });
    });
    signal?.addEventListener('abort', onAbort, { once: true });
    try {
      const { report, info } = await answer;
      this.served = info;
      return report;
    } catch (error) {
      throw signal?.aborted === true ? signal.reason : error;
    } finally {
      signal?.removeEventListener('abort', onAbort);
    }
  }

  stats(): Promise<EngineStats> {
    return new Promise((take, fail) => void this.ask({ type: 'stats' }, { take: take as Pending['take'], fail }));
  }

  async close(): Promise<void> {
    if (this.open) this.send({ type: 'close' });
    this.open = false;
    await this.ended;
  }

  private receive(message: FromWorker): void {
    if (message.type === 'deltas') {
      for (const [id, delta] of message.deltas) this.settle(id, delta.finishReason !== null)?.take(delta);
    }
    if (message.type === 'progress' && message.id !== null) this.settle(message.id, false)?.onProgress?.(message.progress);
    if (message.type === 'answer') this.settle(message.id, true)?.take(message.value);
    if (message.type === 'error') this.settle(message.id, true)?.fail(GraftError.fromJSON(message.error));
  }

  /** Who waits for messages with this id; after the last one nobody does. */
  private settle(id: number, isLast: boolean): Pending | undefined {
    const pending = this.pending.get(id);
    if (isLast) this.pending.delete(id);
    return pending;
  }

  private ask(message: WithoutId<ToWorker>, pending: Pending): number {
    if (!this.open) throw new EngineClosedError();
    const id = this.nextId++;
    this.pending.set(id, pending);
    this.send({ ...message, id } as ToWorker);
    return id;
  }

  /** Where the worker is at it still. */
  private abort(id: number): void {
    if (this.pending.delete(id)) this.send({ type: 'abort', id });
  }

  private send(message: ToWorker): void {
    this.worker.postMessage(message);
  }

  private end(error: unknown): void {
    this.open = false;
    for (const pending of this.pending.values()) pending.fail(error);
    this.pending.clear();
  }
}
