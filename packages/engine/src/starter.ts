/** `@graft/engine/starter`: what starts an engine in a worker. It leaves the rest of the engine out of the importing thread, for a start in half the time. */
export { EngineConfig, graftVersion } from './config.ts';
export { startEngineWorker } from './worker/engine-worker.ts';
