import { createHash } from 'node:crypto';
import { mkdirSync, readdirSync, renameSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { availableParallelism, cpus, loadavg } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { GraftError, meantNames, messageOf, quotedList, useCacheEntry } from '@graft/common';
import type { WeightPolicy } from '@graft/core-model';
import type { Backend } from '@graft/graph';
import type { Newable } from '@graft/registry';
import { z } from 'zod';
import { type EngineConfig, graftVersion, isContinuousIntegration } from './config.ts';
import { EngineConfigError } from './errors.ts';
import { readJsonFile } from './json-file.ts';

/** One of several backends of a platform. The one that is fastest with the model on this machine serves. */
export interface BackendCandidate {
  /** The value of the platform option `backend`. */
  readonly name: string;
  /** The version of the library that computes. @throws the library's own error if it is missing on this machine. */
  version(): string | Promise<string>;
  /** The formats in which it keeps weights. */
  readonly weightPolicy: WeightPolicy;
  /** Imports its class. */
  load(): Promise<Newable<Backend>>;
}

/** The backend that serves, and why. */
export interface BackendChoice {
  readonly candidate: BackendCandidate;
  readonly reason: string;
}

/** Seconds for a token of a prompt and of an answer, or why the backend cannot run the model. */
const BackendTrial = z.union([
  z.strictObject({ name: z.string(), prefill: z.number().positive(), decode: z.number().positive() }),
  z.strictObject({ name: z.string(), failure: z.string() }),
]);
export type BackendTrial = z.output<typeof BackendTrial>;

/** The trials of a platform's backends with one model. */
const Measurement = z.strictObject({
  measuredAt: z.iso.datetime(),
  cpu: z.string(),
  /** Whether other programs wanted the processors too. */
  busy: z.boolean(),
  trials: z.array(BackendTrial),
});
type Measurement = z.output<typeof Measurement>;

/** What a measurement holds for. */
export interface MeasuredSubject {
  readonly platform: string;
  readonly mode: string;
  readonly config: Pick<EngineConfig, 'model'> & Partial<Pick<EngineConfig, 'architecture' | 'threads' | 'weights' | 'cacheDirectory'>>;
}

/** Seconds for a token of a prompt and of an answer. */
export type TryBackend = (candidate: BackendCandidate) => Promise<{ prefill: number; decode: number }>;

interface Present {
  readonly candidate: BackendCandidate;
  readonly version: string;
}

/** The key of the platform options that names a backend. The engine reads it; the platform does not see it. */
export const backendOption = 'backend';

/**
 * The backend that the options name; otherwise the fastest in a measurement, which is kept in the cache directory (one of a busy machine
 * until it is idle). Without a cache directory, and in continuous
 * integration (the environment variable `CI`), nothing is measured and the first one serves.
 * @param tryBackend measures. Left out: only a measurement that was kept counts.
 * @throws EngineConfigError for a name that no backend has
 */
export async function chooseBackend(
  candidates: readonly BackendCandidate[],
  platformOptions: Readonly<Record<string, unknown>> = {},
  subject: MeasuredSubject | null = null,
  tryBackend?: TryBackend,
): Promise<BackendChoice> {
  if (Object.hasOwn(platformOptions, backendOption))
    return { candidate: backendNamed(platformOptions[backendOption], candidates), reason: `named by ${option}` };
  const { present, missing } = await presentOf(candidates);
  const [first = { candidate: candidates[0]! }, second] = present;
  const because = (reason: string): string => [reason, ...missing].join('; ');
  if (second === undefined) return { candidate: first.candidate, reason: because('the only backend here') };
  const unmeasured = { candidate: first.candidate, reason: because('the first backend, since this model was not measured') };
  const { cacheDirectory } = subject?.config ?? {};
  if (subject === null || cacheDirectory === undefined) return unmeasured;
  const [folder, key] = [measurementsIn(cacheDirectory), keyOf(present, subject)];
  const file = join(folder, `${key}.json`);
  const kept = await readJsonFile(file, Measurement, (what, where) => new EngineConfigError(what, where)).catch(() => null);
  const mayMeasure = tryBackend !== undefined && !isContinuousIntegration() && (kept === null || (kept.busy && !isBusy()));
  const measurement = mayMeasure ? await measure(present, tryBackend) : kept;
  if (measurement === null) return unmeasured;
  if (measurement !== kept) keep(file, measurement);
  useCacheEntry(folder, key);
  const { candidate, reason } = fastestOf(present, measurement);
  return { candidate, reason: because(reason) };
}

/** The folder of a cache directory that holds measurements. */
export const measurementsIn = (cacheDirectory: string): string => join(cacheDirectory, 'backends');

const option = `--platform-options, key "${backendOption}"`;

/** @throws EngineConfigError */
function backendNamed(asked: unknown, candidates: readonly BackendCandidate[]): BackendCandidate {
  const candidate = candidates.find(({ name }) => name === asked);
  if (candidate !== undefined) return candidate;
  const names = candidates.map(({ name }) => name);
  const [meant] = meantNames(String(asked), names);
  const fix = meant === undefined ? `write one of ${quotedList(names)}, or leave it out.` : `write "${meant}".`;
  throw new EngineConfigError(`The platform has no backend ${JSON.stringify(asked)}.`, option, fix);
}

/** The backends whose libraries are here, and a sentence for each other one. */
async function presentOf(candidates: readonly BackendCandidate[]): Promise<{ present: Present[]; missing: string[] }> {
  const present: Present[] = [];
  const missing: string[] = [];
  for (const candidate of candidates) {
    try {
      present.push({ candidate, version: await candidate.version() });
    } catch (error) {
      missing.push(`${candidate.name} is not here: ${GraftError.is(error) ? error.what : messageOf(error)}`);
    }
  }
  return { present, missing };
}

const cpuName = (): string => cpus()[0]?.model ?? 'unknown';

function keyOf(present: readonly Present[], { platform, mode, config }: MeasuredSubject): string {
  const { model, architecture = null, threads = null, weights = 'auto' } = config;
  const libraries = present.map(({ candidate, version }) => [candidate.name, version]);
  const machine = [process.arch, cpuName(), availableParallelism(), process.version];
  const subject = [filesOf(model), platform, mode, architecture, threads, weights, graftVersion, libraries, machine];
  return createHash('sha256').update(JSON.stringify(subject)).digest('hex').slice(0, 40);
}

/** Names, sizes and times of a checkpoint's files: cheap, and other files have others. */
function filesOf(model: string): unknown[] {
  const isFolder = statSync(model).isDirectory();
  const paths = isFolder ? readdirSync(model).map((name) => join(model, name)) : [model];
  return paths.sort().flatMap((path) => {
    const { size, mtimeMs } = statSync(path, { throwIfNoEntry: false }) ?? {};
    return [[basename(path), size, mtimeMs]];
  });
}

/** Whether more programs want to run than there are processors, so that times say little. */
const isBusy = (): boolean => loadavg()[0]! > 1.5 * availableParallelism();

async function measure(present: readonly Present[], tryBackend: TryBackend): Promise<Measurement> {
  const trials: BackendTrial[] = [];
  for (const { candidate } of present) {
    const { name } = candidate;
    try {
      trials.push({ name, ...(await tryBackend(candidate)) });
    } catch (error) {
      if ((error as Error | null)?.name === 'AbortError') throw error;
      trials.push({ name, failure: GraftError.is(error) ? error.what : messageOf(error) });
    }
  }
  return { measuredAt: new Date().toISOString(), cpu: cpuName(), busy: isBusy(), trials };
}

/** For the next start. A cache that cannot be written costs a measurement there. */
function keep(file: string, measurement: Measurement): void {
  const temporary = `${file}.${process.pid}.tmp`;
  try {
    mkdirSync(dirname(file), { recursive: true });
    writeFileSync(temporary, JSON.stringify(measurement));
    renameSync(temporary, file);
  } catch {
    rmSync(temporary, { force: true });
  }
}

/** The least time for a prompt and an answer of half its tokens. */
function fastestOf(present: readonly Present[], { measuredAt, cpu, busy, trials }: Measurement): BackendChoice {
  const ran = trials.flatMap((trial) => ('failure' in trial ? [] : [trial]));
  const cost = ({ prefill, decode }: (typeof ran)[number]): number => prefill + decode / 2;
  const [best, next] = ran.sort((a, b) => cost(a) - cost(b));
  const failed = trials.flatMap((trial) => ('failure' in trial ? [`${trial.name} cannot run this model: ${trial.failure}`] : []));
  const ratio = (of: number, to: number): string => `${(of / to).toFixed(1)}x`;
  const compared =
    best && next ? [`prefill ${ratio(next.prefill, best.prefill)}, decode ${ratio(next.decode, best.decode)} of ${next.name}`] : [];
  const measured = `measured on ${measuredAt.slice(0, 10)} (${cpu}${busy ? ', busy: a start when it is idle measures again' : ''})`;
  const candidate = present.find(({ candidate: { name } }) => name === best?.name) ?? present[0]!;
  return { candidate: candidate.candidate, reason: [...compared, measured, ...failed].join(', ') };
}
