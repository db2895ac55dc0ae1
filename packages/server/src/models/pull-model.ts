import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { GraftError } from '@graft/common';
import type { LoadProgress } from '@graft/engine';
import { bytesText, checkRoom, downloadBlob, partialBytes, writingTo } from './download.ts';
import { HubFilesError, HubUnreachableError, NotCachedError } from './errors.ts';
import { type HubFile, type HubListing, HubRepository, hubSettings } from './hub.ts';
import { RepositoryCache } from './hub-cache.ts';
import { type HubName, parseHubName, type Selection, selectFiles } from './hub-name.ts';

export interface PullOptions {
  /** `HF_TOKEN`, `HF_HOME`, `HF_HUB_CACHE`, `HF_ENDPOINT` and `HF_HUB_OFFLINE` are read. */
  environment: NodeJS.ProcessEnv;
  /** False: of safetensors, config and tokenizer alone. Default: true. */
  weights?: boolean;
  onProgress?: (progress: LoadProgress) => void;
  /** Told of a choice that the name left open, and of a hub that cannot be reached. */
  onNote?: (note: string) => void;
  signal?: AbortSignal;
}

export interface PulledModel {
  /** A folder, or the first file of a GGUF, in the cache. */
  path: string;
  commit: string;
  files: string[];
  /** Of all files. */
  bytes: number;
  /** Of those that the cache lacked. */
  downloadedBytes: number;
}

/**
 * A model of the Hugging Face hub in the cache that Python's huggingface_hub uses; downloads the files that the cache lacks. Two processes download once. Where
 * the hub cannot be reached, the cache serves what it has.
 * @param text `hf:ORG/REPO[:QUANT or FILE][@REVISION]`.
 * @throws HubNameError, HubAccessError, HubNotFoundError, HubFilesError, HubUnreachableError, NotCachedError, ModelHashError, ModelDiskFullError, ModelCacheError;
 * the signal's reason.
 */
export async function pullModel(text: string, options: PullOptions): Promise<PulledModel> {
  const name = parseHubName(text);
  const source = await findSource(name, options);
  const { cache, commit, listing, absence } = source;
  const selection = await select(source);
  const { small, index, weights, open, note } = selection;
  const pulled: PulledModel = { path: join(cache.snapshot(commit), open), commit, files: [], bytes: 0, downloadedBytes: 0 };
  const isWhole = options.weights !== false || open !== '';
  // Without fractions: the bar is for the weights, which an index in these files may list.
  await complete(source, [...small, ...(isWhole && index !== null ? [index] : [])], pulled, {
    ...options,
    onProgress: (progress) => options.onProgress?.({ ...progress, fraction: null }),
  });
  if (isWhole) await complete(source, index === null ? weights : await shardsOf(source, index), pulled, options);
  if (pulled.downloadedBytes > 0) report(options, 'downloaded and verified', 1);
  if (listing !== null) await writingTo(cache.folder, () => cache.setRef(name.revision ?? 'main', commit));
  if (absence instanceof HubUnreachableError) options.onNote?.(`${absence.what} The copy in the cache is used.`);
  if (note !== null) options.onNote?.(note);
  return pulled;
}

/** Where the files of a model are. */
interface Source {
  name: HubName;
  repository: HubRepository;
  cache: RepositoryCache;
  commit: string;
  /** Null where the cache alone is asked. */
  listing: HubListing | null;
  /** Thrown for what the cache alone does not have. */
  absence: GraftError;
}

async function findSource(name: HubName, { environment, signal }: PullOptions): Promise<Source> {
  const settings = await hubSettings(environment);
  const repository = new HubRepository(name, settings, signal);
  const cache = new RepositoryCache(settings.cache, name.repo);
  let absence: GraftError = new NotCachedError(name.text, 'unset HF_HUB_OFFLINE to download it.');
  let listing: HubListing | null = null;
  try {
    if (!settings.offline) listing = await repository.list();
  } catch (error) {
    if (!(error instanceof HubUnreachableError)) throw error;
    absence = error;
  }
  const commit = listing?.commit ?? (await cache.commitOf(name.revision ?? 'main'));
  if (commit === null) throw absence;
  return { name, repository, cache, commit, listing, absence };
}

async function select({ name, listing, cache, commit, absence }: Source): Promise<Selection> {
  const paths = [...(listing?.files ?? (await cache.files(commit))).keys()];
  try {
    return selectFiles(name, paths);
  } catch (error) {
    throw listing === null && error instanceof HubFilesError ? absence : error;
  }
}

async function shardsOf({ name, cache, commit }: Source, index: string): Promise<string[]> {
  try {
    const text = await readFile(join(cache.snapshot(commit), index), 'utf8');
    return [...new Set(Object.values((JSON.parse(text) as { weight_map: Record<string, string> }).weight_map))].sort();
  } catch {
    throw new HubFilesError(`${index} has no "weight_map" of tensors to files.`, name.text, 'choose another revision or repository.');
  }
}

/** Downloads those of the files that the snapshot lacks, and counts all. */
async function complete(source: Source, paths: readonly string[], pulled: PulledModel, options: PullOptions): Promise<void> {
  const { cache, commit } = source;
  const onWait = (pid: number) => report(options, `waiting for process ${pid}, which downloads the same model`, null);
  if ((await missingOf(source, paths)).length > 0) {
    await writingTo(cache.folder, async () => {
      const lock = await cache.lock(options.signal, onWait);
      try {
        pulled.downloadedBytes += await download(source, await missingOf(source, paths), options);
      } finally {
        await lock.release();
      }
    });
  }
  const files = await cache.files(commit);
  pulled.files.push(...paths);
  pulled.bytes += paths.reduce((sum, path) => sum + files.get(path)!.size, 0);
}

async function missingOf({ name, cache, commit, listing, absence }: Source, paths: readonly string[]): Promise<HubFile[]> {
  const there = await cache.files(commit);
  if (listing === null) {
    if (paths.every((path) => there.has(path))) return [];
    throw absence;
  }
  const unknown = paths.find((path) => !listing.files.has(path));
  if (unknown !== undefined)
    throw new HubFilesError(`The repository lacks ${unknown}, which its index names.`, name.text, 'choose another revision or repository.');
  return paths.map((path) => listing.files.get(path)!).filter(({ path, size }) => there.get(path)?.size !== size);
}

/** @returns the bytes that were downloaded; blobs that other snapshots have are linked. */
async function download({ name, repository, cache, commit }: Source, files: readonly HubFile[], options: PullOptions): Promise<number> {
  const isThere = await Promise.all(files.map((file) => cache.has(file)));
  const lacking = files.filter((_, i) => !isThere[i]);
  const total = lacking.reduce((sum, { size }) => sum + size, 0);
  const begun = await Promise.all(lacking.map((file) => partialBytes(cache.blob(file))));
  await checkRoom(total - begun.reduce((sum, bytes) => sum + bytes, 0), name.text, cache.folder);
  let done = 0;
  const onBytes = (count: number, path: string) => {
    done += count;
    report(options, `${bytesText(done)} of ${bytesText(total)}, ${path}`, Math.min(done / (total || 1), 0.99));
  };
  for (const file of files) {
    if (lacking.includes(file)) await downloadBlob({ repository, commit, file, blob: cache.blob(file), onBytes, signal: options.signal });
    await cache.link(commit, file);
  }
  return total;
}

function report({ onProgress }: PullOptions, message: string, fraction: number | null): void {
  onProgress?.({ step: 'download', message, fraction });
}
