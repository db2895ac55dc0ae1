import { EventBus } from '@graft/common';
import type { Engine, EngineConfig, EngineEvents, LoadProgress, StartOptions } from '@graft/engine';
import { startEngineWorker } from '@graft/engine/starter';
import type { z } from 'zod';
import { defaultArchitecture, ensureDefaultModel } from '../models/default-model.ts';
import type { Environment } from './config.ts';
import { askedOf, checkEngineConfig } from './flags.ts';
import { localModel } from './models.ts';
import { progressReport } from './progress.ts';
import { stopSignal, type Terminal } from './terminal.ts';
import { warmUpTable } from './warm-up-table.ts';

/** Starts an engine: in the worker, unless a test brings another starter. */
export type EngineStarter = (
  config: z.input<typeof EngineConfig>,
  options: Pick<StartOptions, 'onProgress' | 'events' | 'signal' | 'defaultPlugins' | 'defaultPluginsFrom'>,
) => Promise<Engine>;

/** Takes a record of the engine and its sentence, for a log. */
type Warn = (record: object, message: string) => void;

/** The engine's events, each as a record and a sentence for a log. */
export function loggedEvents(warn: Warn): EventBus<EngineEvents> {
  const events = new EventBus<EngineEvents>();
  events.on('hook:warning', (record) => warn(record, `plugin "${record.plugin}", hook "${record.hook}": ${record.message}`));
  events.on('load:warning', (record) => warn(record, record.message));
  events.on('graph:recompile', (record) => {
    const because = record.failures.map(({ guard, expected, actual }) => `${guard || 'the module'} is ${actual}, expected ${expected}`);
    warn(record, `${record.region} ${record.path} was compiled while requests waited ${record.stallMs} ms: ${because.join('; ')}`);
  });
  return events;
}

/** For an application whose package.json lists no plugins: the platform that every machine has, and ggml. */
export const defaultPlugins = { defaultPlugins: ['@graft/cpu', '@graft/gpu'], defaultPluginsFrom: import.meta.dirname };

interface Starting {
  environment: Environment;
  terminal: Terminal;
  warn: Warn;
  start?: EngineStarter | undefined;
  /** Called while the worker loads a model that was not refused. */
  whileLoading?: () => unknown;
}

/**
 * Runs `body` with the engine that a command's flags ask for, then closes it. SIGINT and SIGTERM abort the start and `stopped`.
 * @throws UsageError for a flag out of range; ModelDownloadError; the errors of the engine and of `body`.
 */
export async function withEngine(
  options: Record<string, unknown>,
  starting: Starting,
  body: (engine: Engine, stopped: AbortSignal) => Promise<void>,
): Promise<void> {
  using stop = stopSignal();
  const engine = await startEngine(options, starting, stop.signal);
  try {
    await body(engine, stop.signal);
  } finally {
    await engine.close();
  }
}

/** The default model serves when the flags name none. Progress goes to stderr. */
async function startEngine(
  options: Record<string, unknown>,
  { environment, terminal, warn, start = startEngineWorker, whileLoading }: Starting,
  signal: AbortSignal,
): Promise<Engine> {
  const asked = askedOf<Record<string, unknown>>(options, environment);
  // Checked before a download of minutes, with any name in the model's place.
  checkEngineConfig({ model: 'default', ...asked });
  using progress = progressReport(terminal.stderr);
  const onProgress = (report: LoadProgress) => {
    progress.show(report);
    whileLoading?.();
  };
  const name = asked['model'] as string | undefined;
  const model =
    name === undefined
      ? await ensureDefaultModel({ environment: environment.variables, onProgress, signal })
      : await localModel(name, environment, terminal, true);
  const chosen = name === undefined ? { architecture: defaultArchitecture } : servedAs(name);
  const config = checkEngineConfig({ ...chosen, ...asked, model });
  const engine = await start(config, { onProgress, events: loggedEvents(warn), signal, ...defaultPlugins });
  progress.end();
  const { device, platform, platformReason, backend, warmUp } = engine.info;
  if (device === 'emulated') terminal.stderr.write(`Platform "${platform}" is emulated: ${platformReason}.\n`);
  if (backend !== null) terminal.stderr.write(`Backend "${backend.name}": ${backend.reason}.\n`);
  if (warmUp !== null) terminal.stderr.write(warmUpTable(warmUp));
  return engine;
}

/** A model of the hub keeps its name in the API: its folder in the cache is named by a commit. */
function servedAs(model: string): { servedModelName?: string } {
  return model.startsWith('hf:') ? { servedModelName: model.slice('hf:'.length) } : {};
}
