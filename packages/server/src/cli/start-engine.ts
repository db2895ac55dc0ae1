import { EventBus } from '@graft/common';
import { type Engine, type EngineConfig, type EngineEvents, type LoadProgress, type StartOptions, startEngineWorker } from '@graft/engine';
import type { z } from 'zod';
import { defaultArchitecture, ensureDefaultModel } from '../default-model.ts';
import type { Environment } from './config.ts';
import { checkEngineConfig, engineOptions } from './flags.ts';
import { progressReport } from './progress.ts';
import type { Terminal } from './terminal.ts';
import { warmUpTable } from './warm-up-table.ts';

/** How an engine is started; the worker, unless a test brings another one. */
export type EngineStarter = (
  config: z.input<typeof EngineConfig>,
  options: Pick<StartOptions, 'onProgress' | 'events' | 'signal' | 'defaultPlugins' | 'defaultPluginsFrom'>,
) => Promise<Engine>;

/** The engine's events, each as a record and a sentence for a log. */
export function loggedEvents(warn: (record: object, message: string) => void): EventBus<EngineEvents> {
  const events = new EventBus<EngineEvents>();
  events.on('hook:warning', (record) => warn(record, `plugin "${record.plugin}", hook "${record.hook}": ${record.message}`));
  events.on('graph:recompile', (record) => {
    const because = record.failures.map(({ guard, expected, actual }) => `${guard || 'the module'} is ${actual}, expected ${expected}`);
    warn(record, `${record.region} ${record.path} was compiled while requests waited ${record.stallMs} ms: ${because.join('; ')}`);
  });
  return events;
}

/** For an application whose package.json lists no plugins: the platform that every machine has. */
export const defaultPlugins = { defaultPlugins: ['@graft/cpu'], defaultPluginsFrom: import.meta.url };

/**
 * The engine that a command's flags ask for, with the default model when they name none. Progress goes to stderr.
 * @throws UsageError for a flag out of range; ModelDownloadError; what the engine throws.
 */
export async function startEngine(
  options: Record<string, unknown>,
  {
    environment,
    terminal,
    signal,
    events,
    start = startEngineWorker,
  }: { environment: Environment; terminal: Terminal; signal: AbortSignal; events: EventBus<EngineEvents>; start?: EngineStarter },
): Promise<Engine> {
  const given = engineOptions(options);
  const { allowPlugins } = environment;
  // Checked before a download of minutes, with any name in the model's place.
  checkEngineConfig({ model: 'default', ...given });
  const progress = progressReport(terminal.stderr);
  const onProgress = (report: LoadProgress) => progress.show(report);
  try {
    const chosen =
      given['model'] === undefined
        ? { architecture: defaultArchitecture, model: await ensureDefaultModel({ environment: environment.variables, onProgress, signal }) }
        : {};
    const config = checkEngineConfig({ ...(allowPlugins === undefined ? {} : { allowPlugins }), ...chosen, ...given });
    const engine = await start(config, { onProgress, events, signal, ...defaultPlugins });
    progress.end();
    const { device, platform, platformReason, warmUp } = engine.info;
    if (device === 'emulated') terminal.stderr.write(`Platform "${platform}" is emulated: ${platformReason}.\n`);
    if (warmUp !== null) terminal.stderr.write(warmUpTable(warmUp));
    return engine;
  } finally {
    progress.end();
  }
}
