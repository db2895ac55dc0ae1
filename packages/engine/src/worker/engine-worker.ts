import { Worker } from 'node:worker_threads';
import { GraftError, messageOf } from '@graft/common';
import type { z } from 'zod';
import { readAnswer } from '../answer.ts';
import { type EngineConfig, parseConfig } from '../config.ts';
import type { Engine, EngineInfo, EngineStats, LoadProgress, ReloadOptions, ReloadReport } from '../engine.ts';
import { EngineClosedError, EngineFailureError } from '../errors.ts';
import type { GenerateRequest, TokenDelta } from '../request.ts';
import type { StartOptions } from '../start-engine.ts';
import { unlessAborted } from '../unless-aborted.ts';
import { type FromWorker, type Reloaded, startId, type ToWorker, type WorkerStart } from './protocol.ts';

/**
 * Starts the engine in a worker, so that HTTP and the terminal stay responsive while a model loads and runs. The worker imports the engine while this thread
 * looks for the plugins and reads the model's config. It refuses to start if it finds other plugins than this thread.
 * @throws PluginInCodeError, PluginSetsDifferError, and the errors of `LlmEngine.start`.
 */
export async function startEngineWorker(config: z.input<typeof EngineConfig>, options: StartOptions = {}): Promise<Engine> {
  const parsed = parseConfig(config);
  options.signal?.throwIfAborted();
  const engine = new EngineWorker(new Worker(entryUrl(), { execArgv: [] }), options.events);
  const { checkStart } = await import('./check-start.ts');
  return await engine.start(checkStart(parsed, options), options);
}

const graceMs = 10_000;

/**
 * Ends a worker that is not ready, and frees its native memory: asks it first, and terminates it only if it does not respond. The process stays alive until the
 * worker has ended: on exit, Node kills a worker in any state, and native code (koffi) then crashes the process.
 */
function endWorker(worker: Worker): void {
  const force = setTimeout(() => void worker.terminate(), graceMs).unref();
  worker.once('exit', () => clearTimeout(force));
  worker.postMessage({ type: 'close' } satisfies ToWorker);
}

/** The entry is built JavaScript: a worker cannot start from TypeScript under vitest or tsx. */
function entryUrl(): URL {
  return import.meta.url.endsWith('.ts') ? new URL('../../dist/worker/entry.js', import.meta.url) : new URL('./entry.js', import.meta.url);
}

/** A request that waits for messages with its id. */
interface Pending {
  take(value: unknown): void;
  fail(error: unknown): void;
  onProgress?: ((progress: LoadProgress) => void) | undefined;
}

type WithoutId<M> = M extends { id: number } ? Omit<M, 'id'> : never;

/** The engine behind a worker thread. */
class EngineWorker implements Engine {
  private served!: EngineInfo;
  private readonly worker: Worker;
  private readonly events: StartOptions['events'];
  private readonly pending = new Map<number, Pending>();
  private nextId = startId + 1;
  private readonly ended: Promise<void>;
  private open = true;
  private failure: unknown = null;

  constructor(worker: Worker, events: StartOptions['events']) {
    this.worker = worker;
    this.events = events;
    worker.on('message', (message: FromWorker) => this.receive(message));
    worker.on('error', (error) => this.end(new EngineFailureError(`The engine's worker failed: ${messageOf(error)}`, error)));
    this.ended = new Promise((resolve) => {
      worker.once('exit', (code) => {
        const early = this.pending.has(startId);
        const failure = early && new EngineFailureError(`The engine's worker ended with code ${code} before it was ready.`);
        if (this.failure === null) this.end(failure || new EngineClosedError("The engine's worker ended."));
        resolve();
      });
    });
  }

  /** Waits until the worker is ready. @throws the errors of `checked` and of the start; the signal's reason. */
  async start(checked: Promise<WorkerStart>, { onProgress, signal }: Pick<StartOptions, 'onProgress' | 'signal'>): Promise<this> {
    const started = new Promise<EngineInfo>((take, fail) => this.pending.set(startId, { take: take as Pending['take'], fail, onProgress }));
    started.catch(() => undefined); // `checked` may fail first
    try {
      const start = await checked;
      signal?.throwIfAborted();
      this.send({ type: 'start', ...start });
    } catch (error) {
      this.pending.delete(startId);
      await this.worker.terminate(); // harmless here: no plugin, and so no native code, is loaded in it yet
      throw error;
    }
    try {
      this.served = await unlessAborted(started, signal);
      return this;
    } catch (error) {
      this.pending.delete(startId);
      endWorker(this.worker);
      throw error;
    }
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
    return this.request({ type: 'tokenize', text });
  }

  /** After an abort, rejects once the old weights serve again. A reload that finished before the abort reached the worker stays. */
  async reloadWeights(model: string, { signal, onProgress }: ReloadOptions = {}): Promise<ReloadReport> {
    signal?.throwIfAborted();
    let onAbort = (): void => undefined;
    const answer = this.request<Reloaded>({ type: 'reload', model }, onProgress, (id) => {
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
    return this.request({ type: 'stats' });
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
    if (message.type === 'event') this.events?.emit(message.name, message.event);
    if (message.type === 'progress') this.settle(message.id, false)?.onProgress?.(message.progress);
    if (message.type === 'answer') this.settle(message.id, true)?.take(message.value);
    if (message.type === 'uncaught') this.end(GraftError.fromJSON(message.error));
    if (message.type === 'error') this.settle(message.id, true)?.fail(GraftError.fromJSON(message.error));
  }

  /** The request with this id; the last message for it removes it. */
  private settle(id: number, isLast: boolean): Pending | undefined {
    const pending = this.pending.get(id);
    if (isLast) this.pending.delete(id);
    return pending;
  }

  /** Waits for the answer. @param sent gets the id of the message. */
  private request<T>(message: WithoutId<ToWorker>, onProgress?: Pending['onProgress'], sent?: (id: number) => void): Promise<T> {
    return new Promise((take, fail) => {
      const id = this.ask(message, { take: take as Pending['take'], fail, onProgress });
      sent?.(id);
    });
  }

  private ask(message: WithoutId<ToWorker>, pending: Pending): number {
    if (!this.open) throw this.failure ?? new EngineClosedError();
    const id = this.nextId++;
    this.pending.set(id, pending);
    this.send({ ...message, id } as ToWorker);
    return id;
  }

  /** Tells the worker, if the request is still pending. */
  private abort(id: number): void {
    if (this.pending.delete(id)) this.send({ type: 'abort', id });
  }

  private send(message: ToWorker): void {
    this.worker.postMessage(message);
  }

  private end(error: unknown): void {
    this.open = false;
    this.failure = error;
    for (const pending of this.pending.values()) pending.fail(error);
    this.pending.clear();
  }
}
