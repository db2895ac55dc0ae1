import { type LoadProgress, type OpCheck, type VerifySubject, verify as verifyOverride, verifyPlatformOps } from '@graft/engine';
import type { Environment } from './config.ts';
import { UsageError } from './flags.ts';
import { askedWithModel } from './models.ts';
import { progressReport } from './progress.ts';
import { defaultPlugins } from './start-engine.ts';
import { print, stopSignal, type Terminal } from './terminal.ts';

export interface VerifyOptions {
  config?: string;
  seed: number;
  tolerance: number;
  maxTokens: number;
  prompt?: string;
  promptIds?: number[];
  json?: boolean;
  ops?: boolean;
  [engineKey: string]: unknown;
}

/**
 * Compares an override with its upstream, as a table or as JSON.
 * @returns the exit code: 0 for equal, 1 if the two differ or one of them failed.
 * @throws UsageError for two prompts; the errors of finding the override, its platform and its weights.
 */
export async function verify(
  architecture: string | undefined,
  { json, ops, prompt, promptIds, config, seed, tolerance, maxTokens, ...options }: VerifyOptions,
  environment: Environment,
  terminal: Terminal,
): Promise<number> {
  const subject = await askedWithModel<VerifySubject>(options, environment, terminal, true);
  if (ops === true) return verifyOps({ ...subject, seed }, json, terminal);
  if (prompt !== undefined && promptIds !== undefined) throw new UsageError('Two prompts were given.', '--prompt and --prompt-ids');
  const given = prompt ?? promptIds;
  const asked = {
    ...subject,
    ...(architecture !== undefined && { architecture }),
    ...(config !== undefined && { config }),
    ...(given !== undefined && { prompt: given }),
    seed,
    tolerance,
    maxTokens,
  };
  using progress = progressReport(terminal.stderr);
  using stop = stopSignal();
  const onProgress = (report: LoadProgress) => progress.show(report);
  const result = await verifyOverride(asked, { ...defaultPlugins, signal: stop.signal, onProgress });
  progress.end();
  print(terminal, json, result);
  return result.record.verdict === 'equal' ? 0 : 1;
}

/** Compares each lowering of a platform with the interpreter, one line each. @returns 0 if all hold, else 1. */
async function verifyOps(subject: VerifySubject, json: boolean | undefined, terminal: Terminal): Promise<number> {
  const { platform } = subject;
  if (platform === undefined) throw new UsageError('No platform was named.', '--platform');
  const checks = await verifyPlatformOps(subject, platform, defaultPlugins);
  print(terminal, json, { text: checks.map(lineOf).join(''), record: checks });
  return checks.every(({ held }) => held) ? 0 : 1;
}

function lineOf({ op, plugin, sample, by, difference, tolerance, failure, held }: OpCheck): string {
  const name = `${plugin === null ? op : `${plugin}/${op}`}`.padEnd(20);
  if (sample === null) return `-       ${name} not run alone\n`;
  const result = failure ?? `off by ${difference!.toExponential(1)}, allowed ${tolerance.toExponential(1)}`;
  return `${held ? 'held  ' : 'FAILED'}  ${name} ${by.padEnd(13)}  ${result}\n`;
}
