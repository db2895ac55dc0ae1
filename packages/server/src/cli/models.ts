import { existsSync } from 'node:fs';
import { readdir, stat } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { GraftError } from '@graft/common';
import type { LoadProgress, ModelDescription } from '@graft/engine';
import { modelsFolder, smolLm2 } from '../models/default-model.ts';
import { bytesText, writingTo } from '../models/download.ts';
import { hubSettings } from '../models/hub.ts';
import { type CachedModel, cachedModels, RepositoryCache } from '../models/hub-cache.ts';
import { looksLikeHubName, parseHubName } from '../models/hub-name.ts';
import { type PulledModel, pullModel } from '../models/pull-model.ts';
import type { Environment } from './config.ts';
import { askedOf } from './flags.ts';
import { progressReport } from './progress.ts';
import { aligned, print, stopSignal, type Terminal } from './terminal.ts';

// What `--model` names, and the commands that keep models.

interface Printed {
  json?: boolean;
}

/**
 * The path of what `--model` names: a path as it is; a model of the hub is downloaded.
 * @param weights whether the command reads them.
 * @throws HubNameError for a name of the hub without `hf:`; the errors of `pullModel`.
 */
export async function localModel(model: string, environment: Environment, terminal: Terminal, weights: boolean): Promise<string> {
  const isOfHub = model.startsWith('hf:') || (looksLikeHubName(model) && !existsSync(model));
  return isOfHub ? (await download(model, environment, terminal, weights)).path : model;
}

/** With progress and notes on stderr; SIGINT and SIGTERM stop it. */
async function download(name: string, { variables }: Environment, { stderr }: Terminal, weights: boolean): Promise<PulledModel> {
  using progress = progressReport(stderr);
  using stop = stopSignal();
  const onProgress = (report: LoadProgress) => progress.show(report);
  const onNote = (note: string) => void stderr.write(`${note}\n`);
  return await pullModel(name, { environment: variables, weights, onProgress, onNote, signal: stop.signal });
}

/** As `askedOf`, with the path of the model. */
export async function askedWithModel<Asked>(
  options: Record<string, unknown>,
  environment: Environment,
  terminal: Terminal,
  weights: boolean,
): Promise<Asked> {
  const asked = askedOf<Asked & { model?: string }>(options, environment);
  return asked.model === undefined ? asked : { ...asked, model: await localModel(asked.model, environment, terminal, weights) };
}

/** `graft pull`. */
export async function pull(name: string, { json }: Printed, environment: Environment, terminal: Terminal): Promise<void> {
  const pulled = await download(name, environment, terminal, true);
  const { files, bytes, downloadedBytes, path } = pulled;
  const text = `${path}\nfiles: ${files.length}; size: ${bytesText(bytes)}; downloaded now: ${bytesText(downloadedBytes)}`;
  print(terminal, json, { text, record: { name, ...pulled } });
}

/** `graft rm`. */
export async function remove(text: string, { json }: Printed, { variables }: Environment, terminal: Terminal): Promise<void> {
  const name = parseHubName(text);
  const { cache } = await hubSettings(variables);
  const freedBytes = await writingTo(cache, () => new RepositoryCache(cache, name.repo).remove(name));
  print(terminal, json, { text: `${text} is removed, which frees ${bytesText(freedBytes)}.`, record: { name: text, freedBytes } });
}

interface ModelRecord extends CachedModel, Partial<ModelDescription> {
  /** Why it cannot be served; null where its files can be read. */
  problem: string | null;
}

/** `graft models`: those in the hub's cache, the default model, and those at the given paths. */
export async function models(
  { json, model: paths = [] }: Printed & { model?: string[] },
  { variables }: Environment,
  terminal: Terminal,
): Promise<void> {
  const { cache } = await hubSettings(variables);
  const own = join(modelsFolder(variables), basename(smolLm2.member));
  const others = [own].filter(existsSync).concat(paths);
  const found = [...(await cachedModels(cache)), ...(await Promise.all(others.map(modelAt)))];
  const record = await Promise.all(found.map(described));
  const rows = record.map(({ name, bytes, architecture, types = [], problem }) => [
    name,
    bytesText(bytes),
    architecture ?? '-',
    problem ?? types.slice(0, 3).join(', '),
  ]);
  const table = aligned([['model', 'size', 'architecture', 'weights'], ...rows], (column) => column === 1);
  const text = found.length > 0 ? table : `No models in ${cache}. graft pull hf:ORG/REPO downloads one.`;
  print(terminal, json, { text, record });
}

async function modelAt(path: string): Promise<CachedModel> {
  const names = await readdir(path, { recursive: true }).catch(() => ['']);
  const files = await Promise.all(names.map((name) => stat(join(path, name)).catch(() => null)));
  return { name: path, path, bytes: files.reduce((sum, file) => sum + (file?.isFile() === true ? file.size : 0), 0) };
}

async function described(model: CachedModel): Promise<ModelRecord> {
  if (model.isIncomplete === true)
    return { ...model, problem: 'incomplete: graft pull with the same name completes it, graft rm removes it' };
  if (model.path === null) return { ...model, problem: 'neither safetensors with a config.json nor a GGUF' };
  try {
    const { describeModel } = await import('@graft/engine');
    return { ...model, ...(await describeModel(model.path)), problem: null };
  } catch (error) {
    if (!GraftError.is(error)) throw error;
    return { ...model, problem: error.what };
  }
}
