import { parentPort } from 'node:worker_threads';
import { EventBus, UncaughtError } from '@graft/common';
import type { EngineEvents, LoadProgress } from '../engine.ts';
import { LlmEngine } from '../llm-engine.ts';
import type { GenerateRequest, TokenDelta } from '../request.ts';
import { errorRecord, type FromWorker, startId, type ToWorker, type WorkerStart } from './protocol.ts';

/** The worker's side. Registry, container, model and loop are in this thread; only records leave it. */
const port = parentPort!;
const send = (message: FromWorker): void => port.postMessage(message);

async function start({ config, ...options }: WorkerStart): Promise<void> {
  const starting = new AbortController();
  const whileStarting = (message: ToWorker): void => {
    if (message.type === 'close') starting.abort();
  };
  port.on('message', whileStarting);
  const onProgress = progressOf(startId);
  const events = new EventBus<EngineEvents>();
  events.on('graph:recompile', (event) => send({ type: 'event', name: 'graph:recompile', event }));
  events.on('hook:warning', (event) => send({ type: 'event', name: 'hook:warning', event }));
  events.on('load:warning', (event) => send({ type: 'event', name: 'load:warning', event }));
  const engine = await LlmEngine.start(config, { ...options, onProgress, events, signal: starting.signal });
  port.on('message', (message: ToWorker) => {
    serve(engine, message).catch((error: unknown) => {
      if ('id' in message) sendError(message.id, error);
    });
  });
  port.off('message', whileStarting);
  send({ type: 'answer', id: startId, value: engine.info });
}

/** Ends the work with this id, for `abort`. */
const running = new Map<number, () => void>();

async function serve(engine: LlmEngine, message: ToWorker): Promise<void> {
  switch (message.type) {
    case 'generate':
      return generate(engine, message.id, message.request);
    case 'reload':
      return reload(engine, message.id, message.model);
    case 'abort':
      running.get(message.id)?.();
      running.delete(message.id);
      return;
    case 'tokenize':
      return send({ type: 'answer', id: message.id, value: await engine.tokenize(message.text) });
    case 'stats':
      return send({ type: 'answer', id: message.id, value: await engine.stats() });
    case 'close':
      await engine.close();
      port.close();
  }
}

function generate(engine: LlmEngine, id: number, request: GenerateRequest): void {
  const end = engine.begin(request, {
    push(delta) {
      if (delta.finishReason !== null) running.delete(id);
      sendDelta(id, delta);
    },
    fail(error) {
      running.delete(id);
      sendError(id, error);
    },
  });
  running.set(id, end);
}

async function reload(engine: LlmEngine, id: number, model: string): Promise<void> {
  const controller = new AbortController();
  running.set(id, () => controller.abort());
  try {
    const report = await engine.reloadWeights(model, { signal: controller.signal, onProgress: progressOf(id) });
    send({ type: 'answer', id, value: { report, info: engine.info } });
  } finally {
    running.delete(id);
  }
}

let deltas: [id: number, delta: TokenDelta][] = [];

/** The deltas of a run arrive in one turn of the event loop. They are sent as one message at its end. */
function sendDelta(id: number, delta: TokenDelta): void {
  if (deltas.push([id, delta]) > 1) return;
  queueMicrotask(() => {
    send({ type: 'deltas', deltas });
    deltas = [];
  });
}

const progressOf =
  (id: number) =>
  (progress: LoadProgress): void =>
    send({ type: 'progress', id, progress });

const sendError = (id: number, error: unknown): void => send({ type: 'error', id, error: errorRecord(error) });

process.on('uncaughtException', (error: unknown) => {
  send({ type: 'uncaught', error: UncaughtError.of(error).toJSON() });
  process.exit(1); // ends this thread alone
});

port.once('message', (message: ToWorker) => {
  if (message.type !== 'start') return port.close();
  start(message).catch((error: unknown) => {
    sendError(startId, error);
    port.close();
  });
});
