import { parentPort, workerData } from 'node:worker_threads';
import { EventBus } from '@graft/common';
import type { EngineEvents, LoadProgress } from '../engine.ts';
import { LlmEngine } from '../llm-engine.ts';
import { errorRecord, type FromWorker, type ToWorker, type WorkerStart } from './protocol.ts';

/** The worker's side: registry, container, model and loop live here; only records go out. */
const port = parentPort!;
const send = (message: FromWorker): void => port.postMessage(message);

async function start({ config, ...options }: WorkerStart): Promise<void> {
  const starting = new AbortController();
  const whileStarting = (message: ToWorker): void => {
    if (message.type === 'close') starting.abort();
  };
  port.on('message', whileStarting);
  const onProgress = (progress: LoadProgress): void => send({ type: 'progress', progress });
  const events = new EventBus<EngineEvents>();
  events.on('graph:recompile', (event) => send({ type: 'event', name: 'graph:recompile', event }));
  events.on('hook:warning', (event) => send({ type: 'event', name: 'hook:warning', event }));
  const engine = await LlmEngine.start(config, { ...options, onProgress, events, signal: starting.signal });
  const running = new Map<number, AbortController>();
  port.on('message', (message: ToWorker) => {
    serve(engine, running, message).catch((error: unknown) => {
      if ('id' in message) send({ type: 'error', id: message.id, error: errorRecord(error) });
    });
  });
  port.off('message', whileStarting);
  send({ type: 'ready', info: engine.info });
}

async function serve(engine: LlmEngine, running: Map<number, AbortController>, message: ToWorker): Promise<void> {
  switch (message.type) {
    case 'generate':
      return abortable(running, message.id, async (signal) => {
        for await (const delta of engine.generate(message.request, { signal })) send({ type: 'delta', id: message.id, delta });
        send({ type: 'end', id: message.id });
      });
    case 'reload':
      return abortable(running, message.id, async (signal) => {
        const onProgress = (progress: LoadProgress): void => send({ type: 'reload-progress', id: message.id, progress });
        const report = await engine.reloadWeights(message.model, { signal, onProgress });
        send({ type: 'reloaded', id: message.id, report, info: engine.info });
      });
    case 'abort':
      running.get(message.id)?.abort();
      return;
    case 'tokenize':
      send({ type: 'answer', id: message.id, value: await engine.tokenize(message.text) });
      return;
    case 'stats':
      send({ type: 'answer', id: message.id, value: await engine.stats() });
      return;
    case 'close':
      await engine.close();
      send({ type: 'closed' });
      port.close();
  }
}

/** Runs what an `abort` message with this id ends. */
async function abortable(running: Map<number, AbortController>, id: number, body: (signal: AbortSignal) => Promise<void>): Promise<void> {
  const controller = new AbortController();
  running.set(id, controller);
  try {
    await body(controller.signal);
  } finally {
    running.delete(id);
  }
}

start(workerData as WorkerStart).catch((error: unknown) => {
  send({ type: 'start-failed', error: errorRecord(error) });
  port.close();
});
