import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { GraftError } from '@graft/common';
import type { LoadProgress } from '@graft/engine';
import { bytesText, checkRoom, downloadBlob, partialBytes, writingTo } from './download.ts';
import { HubFilesError, HubUnreachableError, NotCachedError } from './errors.ts';
import { type HubFile, type HubListing, HubRepository, type HubSettings, hubSettings } from './hub.ts';
import { RepositoryCache } from './hub-cache.ts';
import { parseHubName, selectFiles } from './hub-name.ts';

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
  const settings = await hubSettings(options.environment);
  const repository = new HubRepository(name, settings, options.signal);
  const cache = new RepositoryCache(settings.cache, name.repo);
  const { listing, absence } = await findListing(repository, cache, settings);
  const pull: Pull = { repository, cache, listing, options };
  try {
    const { small, index, weights, open, note } = selectFiles(name, [...listing.files.keys()]);
    const isWhole = options.weights !== false || open !== '';
    const first = filesOf(pull, isWhole && index !== null ? [...small, index] : small);
    const firstBytes = await complete(pull, first, false);
    const rest = filesOf(pull, !isWhole ? [] : index === null ? weights : await shardsOf(pull, index));
    const downloadedBytes = firstBytes + (await complete(pull, rest, true));
    if (downloadedBytes > 0) options.onProgress?.({ step: 'download', message: 'downloaded and verified', fraction: 1 });
    if (absence === null) await writingTo(cache.folder, () => cache.setRef(name.revision ?? 'main', listing.commit));
    if (absence instanceof HubUnreachableError) options.onNote?.(`${absence.what} The copy in the cache is used.`);
    if (note !== null) options.onNote?.(note);
    const files = [...first, ...rest];
    const path = join(cache.snapshot(listing.commit), open);
    return { path, commit: listing.commit, files: files.map((file) => file.path), bytes: bytesOf(files), downloadedBytes };
  } catch (error) {
    throw absence !== null && error instanceof HubFilesError ? absence : error;
  }
}

interface Pull {
  repository: HubRepository;
  cache: RepositoryCache;
  listing: HubListing;
  options: PullOptions;
}

/** The files of the hub; those of the cache where the hub is not asked or does not answer, and why what they lack is absent. */
async function findListing(
  repository: HubRepository,
  cache: RepositoryCache,
  { offline }: HubSettings,
): Promise<{ listing: HubListing; absence: GraftError | null }> {
  const { text, revision } = repository.name;
  let absence: GraftError = new NotCachedError(text, 'unset HF_HUB_OFFLINE to download it.');
  try {
    if (!offline) return { listing: await repository.list(), absence: null };
  } catch (error) {
    if (!(error instanceof HubUnreachableError)) throw error;
    absence = error;
  }
  const commit = await cache.commitOf(revision ?? 'main');
  if (commit === null) throw absence;
  return { listing: { commit, files: await cache.files(commit) }, absence };
}

async function shardsOf({ repository, cache, listing }: Pull, index: string): Promise<string[]> {
  try {
    const text = await readFile(join(cache.snapshot(listing.commit), index), 'utf8');
    return [...new Set(Object.values((JSON.parse(text) as { weight_map: Record<string, string> }).weight_map))].sort();
  } catch {
    throw new HubFilesError(
      `${index} has no "weight_map" of tensors to files.`,
      repository.name.text,
      'choose another revision or repository.',
    );
  }
}

function filesOf({ repository, listing }: Pull, paths: readonly string[]): HubFile[] {
  return paths.map((path) => {
    const file = listing.files.get(path);
    if (file !== undefined) return file;
    throw new HubFilesError(
      `The repository lacks ${path}, which its index names.`,
      repository.name.text,
      'choose another revision or repository.',
    );
  });
}

const bytesOf = (files: readonly HubFile[]): number => files.reduce((sum, { size }) => sum + size, 0);

/**
 * Downloads those of the files that the snapshot lacks, and links the blobs that other snapshots have.
 * @param isBulk whether the progress bar is for them.
 * @returns the bytes that were downloaded.
 */
async function complete({ repository, cache, listing, options }: Pull, files: readonly HubFile[], isBulk: boolean): Promise<number> {
  const { commit } = listing;
  const missing = async () => {
    const there = await cache.files(commit);
    return files.filter(({ path, size }) => there.get(path)?.size !== size);
  };
  if ((await missing()).length === 0) return 0;
  const { signal, onProgress } = options;
  const report = (message: string, fraction: number) => onProgress?.({ step: 'download', message, fraction: isBulk ? fraction : null });
  return writingTo(cache.folder, async () => {
    await using _lock = await cache.lock(signal, (pid) => report(`waiting for process ${pid}, which downloads the same model`, 0));
    const unlinked = await missing(); // another process may have downloaded them meanwhile
    const isThere = await Promise.all(unlinked.map((file) => cache.has(file)));
    const absent = unlinked.filter((_, i) => !isThere[i]);
    const total = bytesOf(absent);
    const begun = await Promise.all(absent.map((file) => partialBytes(cache.blob(file))));
    await checkRoom(total - begun.reduce((sum, bytes) => sum + bytes, 0), repository.name.text, cache.folder);
    let done = 0;
    const onBytes = (count: number, path: string) => {
      done += count;
      report(`${bytesText(done)} of ${bytesText(total)}, ${path}`, Math.min(done / (total || 1), 0.99));
    };
    for (const file of absent) await downloadBlob({ repository, commit, file, blob: cache.blob(file), onBytes, signal });
    for (const file of unlinked) await cache.link(commit, file);
    return total;
  });
}
