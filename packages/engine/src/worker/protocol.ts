import { GraftError, type GraftErrorRecord, messageOf } from '@graft/common';
import type { PluginRecord } from '@graft/registry';
import type { z } from 'zod';
import type { EngineConfig } from '../config.ts';
import type { EngineEvents, EngineInfo, EngineStats, LoadProgress, ReloadReport } from '../engine.ts';
import type { GenerateRequest, TokenDelta } from '../request.ts';

/** What a worker starts with: validated, without functions. */
export interface WorkerStart {
  config: z.input<typeof EngineConfig>;
  defaultPlugins?: readonly string[];
  defaultPluginsFrom?: string;
  /** The plugins that the starting thread found. */
  expectedPlugins: readonly PluginRecord[];
}

/** The id of the start, whose answer is the `EngineInfo`. */
export const startId = 0;

export type ToWorker =
  | ({ type: 'start' } & WorkerStart)
  | { type: 'generate'; id: number; request: GenerateRequest }
  | { type: 'abort'; id: number }
  | { type: 'tokenize'; id: number; text: string }
  | { type: 'stats'; id: number }
  | { type: 'reload'; id: number; model: string }
  | { type: 'close' };

export type FromWorker =
  /** Of the start, or of a reload. */
  | { type: 'progress'; id: number; progress: LoadProgress }
  /** The deltas of one run of the model, for all answers. */
  | { type: 'deltas'; deltas: [id: number, delta: TokenDelta][] }
  | { type: 'answer'; id: number; value: EngineInfo | number[] | EngineStats | Reloaded }
  | { type: 'error'; id: number; error: GraftErrorRecord }
  /** An error that reached no caller. The worker ends. */
  | { type: 'uncaught'; error: GraftErrorRecord }
  | { [Name in keyof EngineEvents]: { type: 'event'; name: Name; event: EngineEvents[Name] } }[keyof EngineEvents];

export interface Reloaded {
  report: ReloadReport;
  info: EngineInfo;
}

/** An error as a record; a foreign error keeps its message. */
export function errorRecord(error: unknown): GraftErrorRecord {
  if (GraftError.is(error)) return error.toJSON();
  return { name: 'EngineFailureError', code: 'GRAFT_ENGINE_FAILURE', what: messageOf(error), where: null, fix: null };
}
