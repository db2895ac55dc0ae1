import { Worker } from 'node:worker_threads';
import { GraftError, type GraftErrorRecord, messageOf } from '@graft/common';
import { assertSamePluginSet, type PluginRecord, pluginRecord } from '@graft/registry';
import type { z } from 'zod';
import type { EngineConfig } from '../config.ts';
import type { Engine, EngineInfo, EngineStats, ReloadOptions, ReloadReport } from '../engine.ts';
import { EngineClosedError, EngineFailureError, PluginInCodeError } from '../errors.ts';
import type { GenerateRequest, TokenDelta } from '../request.ts';
import { loadEnginePlugins, parseConfig, type StartOptions } from '../start-engine.ts';
import type { FromWorker, ToWorker, WorkerStart } from './protocol.ts';

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

interface Pending {
  take(message: FromWorker): void;
  fail(error: unknown): void;
}

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
    worker.on('message', (message: FromWorker) => {
      if ('id' in message) this.pending.get(message.id)?.take(message);
    });
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

  async *generate(request: GenerateRequest, { signal }: { signal?: AbortSignal } = {}): AsyncGenerator<TokenDelta, void, void> {
    signal?.throwIfAborted();
    const id = this.nextId++;
    let finished = false;
    let controller!: ReadableStreamDefaultController<TokenDelta>;
    const stream = new ReadableStream<TokenDelta>({ start: (c) => void (controller = c) });
    const fail = (error: unknown): void => {
      if (finished) return;
      finished = true;
      controller.error(error);
    };
    this.expect(id, {
      take(message) {
        if (finished) return;
        if (message.type === 'delta') controller.enqueue(message.delta);
        if (message.type === 'error') fail(fromRecord(message.error));
        if (message.type !== 'end') return;
        finished = true;
        controller.close();
      },
      fail,
    });
    const onAbort = (): void => {
      if (!finished) this.send({ type: 'abort', id });
      fail(signal?.reason);
    };
    signal?.addEventListener('abort', onAbort, { once: true });
    try {
      this.send({ type: 'generate', id, request });
      for await (const delta of stream) yield delta;
    } finally {
      signal?.removeEventListener('abort', onAbort);
      if (!finished) this.send({ type: 'abort', id });
      finished = true;
      this.pending.delete(id);
    }
  }

  tokenize(text: string): Promise<number[]> {
    return this.ask<number[]>((id) => ({ type: 'tokenize', id, text }));
  }

  /** An abort is answered once the worker has gone back to the old weights; a reload that was done before it heard stays done. */
  async reloadWeights(model: string, { signal, onProgress }: ReloadOptions = {}): Promise<ReloadReport> {
    signal?.throwIfAborted();
    const id = this.nextId++;
    const onAbort = (): void => this.send({ type: 'abort', id });
    const answer = new Promise<ReloadReport>((resolve, reject) => {
      this.expect(id, {
        take: (message) => {
          if (message.type === 'reload-progress') onProgress?.(message.progress);
          if (message.type === 'error') reject(signal?.aborted === true ? signal.reason : fromRecord(message.error));
          if (message.type !== 'reloaded') return;
          this.served = message.info;
          resolve(message.report);
        },
        fail: reject,
      });
      this.send({ type: 'reload', id, model });
    });
    signal?.addEventListener('abort', onAbort, { once: true });
    try {
      return await answer;
    } finally {
      signal?.removeEventListener('abort', onAbort);
      this.pending.delete(id);
    }
  }

  stats(): Promise<EngineStats> {
    return this.ask<EngineStats>((id) => ({ type: 'stats', id }));
  }

  async close(): Promise<void> {
    if (this.open) this.send({ type: 'close' });
    this.open = false;
    await this.ended;
  }

  private ask<T>(message: (id: number) => ToWorker): Promise<T> {
    const id = this.nextId++;
    return new Promise<T>((resolve, reject) => {
      this.expect(id, {
        take: (answer) => {
          this.pending.delete(id);
          if (answer.type === 'answer') resolve(answer.value as T);
          if (answer.type === 'error') reject(fromRecord(answer.error));
        },
        fail: reject,
      });
      this.send(message(id));
    });
  }

  private expect(id: number, pending: Pending): void {
    if (!this.open) throw new EngineClosedError();
    this.pending.set(id, pending);
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

function fromRecord(record: GraftErrorRecord): GraftError {
  return GraftError.fromJSON(record);
}
