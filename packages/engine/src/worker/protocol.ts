import type { GraftErrorRecord } from '@graft/common';
import { GraftError, messageOf } from '@graft/common';
import type { PluginRecord } from '@graft/registry';
import type { z } from 'zod';
import type { EngineConfig } from '../config.ts';
import type { EngineEvents, EngineInfo, EngineStats, LoadProgress, ReloadReport } from '../engine.ts';
import type { GenerateRequest, TokenDelta } from '../request.ts';

/** What the worker is started with: validated data only, no functions. */
export interface WorkerStart {
  config: z.input<typeof EngineConfig>;
  defaultPlugins?: readonly string[];
  defaultPluginsFrom?: string;
  /** The plugins that the starting thread found. */
  expectedPlugins: readonly PluginRecord[];
}

export type ToWorker =
  | { type: 'generate'; id: number; request: GenerateRequest }
  | { type: 'abort'; id: number }
  | { type: 'tokenize'; id: number; text: string }
  | { type: 'stats'; id: number }
  | { type: 'reload'; id: number; model: string }
  | { type: 'close' };

export type FromWorker =
  /** Of the start, or of the reload with this id. */
  | { type: 'progress'; id: number | null; progress: LoadProgress }
  | { type: 'ready'; info: EngineInfo }
  | { type: 'start-failed'; error: GraftErrorRecord }
  /** What a run of the model gave, for all answers at once. */
  | { type: 'deltas'; deltas: [id: number, delta: TokenDelta][] }
  | { type: 'answer'; id: number; value: number[] | EngineStats | Reloaded }
  | { type: 'error'; id: number; error: GraftErrorRecord }
  | { [Name in keyof EngineEvents]: { type: 'event'; name: Name; event: EngineEvents[Name] } }[keyof EngineEvents];

export interface Reloaded {
  report: ReloadReport;
  info: EngineInfo;
}

/** An error as a record; one that is not ours keeps its message. */
export function errorRecord(error: unknown): GraftErrorRecord {
  if (GraftError.is(error)) return error.toJSON();
  return { name: 'EngineFailureError', code: 'GRAFT_ENGINE_FAILURE', what: messageOf(error), where: null, fix: null };
}
