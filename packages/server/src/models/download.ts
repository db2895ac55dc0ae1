import { createHash, type Hash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { open, rename, rm, stat, statfs } from 'node:fs/promises';
import { setTimeout as wait } from 'node:timers/promises';
import { GraftError } from '@graft/common';
import { HubUnreachableError, ModelCacheError, ModelDiskFullError, ModelHashError } from './errors.ts';
import { type HubFile, type HubRepository, reasonOf } from './hub.ts';

export interface BlobDownload {
  repository: HubRepository;
  commit: string;
  file: HubFile;
  /** Where the blob goes, once it is complete and its hash is right. */
  blob: string;
  /** Counts bytes as they arrive, those of an earlier attempt first; negative where they turn out to be useless. */
  onBytes: (count: number, path: string) => void;
  signal: AbortSignal | undefined;
}

/** Tries in a row that brought no byte. */
const mostFailures = 3;

/**
 * Downloads a file into a partial file, which the next attempt continues, in this process or in another.
 * @throws HubUnreachableError, ModelHashError, ModelDiskFullError, ModelCacheError; the signal's reason.
 */
export async function downloadBlob({ repository, commit, file, blob, onBytes, signal }: BlobDownload): Promise<void> {
  const partial = partialOf(blob);
  await using output = await open(partial, 'a');
  let written = (await output.stat()).size;
  let isResumed = written > 0;
  let hash = hashOf(file);
  if (isResumed) await hashFile(partial, hash);
  onBytes(written, file.path);
  for (let failures = 0; ; ) {
    const before = written;
    const cut = written < file.size ? await receive() : null;
    if (written < file.size) {
      failures = written > before ? 1 : failures + 1;
      if (failures > mostFailures) throw cut;
      if (failures > 1) await wait(125 * 2 ** failures, undefined, signal && { signal }).catch(() => signal?.throwIfAborted());
      continue;
    }
    const actual = hash.digest('hex');
    if (actual === file.hash) break;
    if (!isResumed) {
      await rm(partial);
      throw new ModelHashError(file.path, file.hash, actual);
    }
    await restart(); // what an earlier attempt left may be at fault
  }
  await output.sync();
  await rename(partial, blob);

  async function restart(): Promise<void> {
    onBytes(-written, file.path);
    written = 0;
    isResumed = false;
    hash = hashOf(file);
    await output.truncate();
  }

  /** Writes what one request brings. @returns what broke it off. */
  async function receive(): Promise<HubUnreachableError> {
    try {
      const response = await repository.download(commit, file.path, written);
      if (written > 0 && response.status !== 206) await restart();
      for await (const chunk of response.body ?? []) {
        const wanted = chunk.subarray(0, file.size - written); // a server may send more than it listed
        await output.appendFile(wanted);
        hash.update(wanted);
        written += wanted.length;
        onBytes(wanted.length, file.path);
        if (wanted.length < chunk.length) break;
      }
      throw new Error('the server sent too few bytes');
    } catch (error) {
      signal?.throwIfAborted();
      if (error instanceof HubUnreachableError) return error;
      if (GraftError.is(error) || isDiskFailure(error)) throw error;
      return new HubUnreachableError(`The download of ${file.path} broke off: ${reasonOf(error)}.`, repository.name.text, error);
    }
  }
}

const partialOf = (blob: string) => `${blob}.graft.incomplete`;

/** The bytes of a blob that an interrupted download left. */
export async function partialBytes(blob: string): Promise<number> {
  return (await stat(partialOf(blob)).catch(() => null))?.size ?? 0;
}

/** @throws ModelDiskFullError where the disk has less room than a download needs. */
export async function checkRoom(bytes: number, name: string, folder: string): Promise<void> {
  const { bavail, bsize } = await statfs(folder);
  const free = bavail * bsize;
  if (free < bytes) throw new ModelDiskFullError(name, folder, `: it needs ${bytesText(bytes)}, and ${bytesText(free)} are free`);
}

/** `1.3 GB`, in units of a thousand. */
export function bytesText(bytes: number): string {
  const [unit, size] = bytes < 1e6 ? ['kB', 1e3] : bytes < 1e9 ? ['MB', 1e6] : ['GB', 1e9];
  return `${(bytes / Number(size)).toFixed(bytes < 1e9 ? 0 : 1)} ${unit}`;
}

const fullDisk = new Set<string | undefined>(['ENOSPC', 'EDQUOT']);
const noWriting = new Set<string | undefined>(['EACCES', 'EPERM', 'EROFS', 'ENOTDIR', 'EEXIST']);

function isDiskFailure(error: unknown): boolean {
  const { code } = error as NodeJS.ErrnoException;
  return fullDisk.has(code) || noWriting.has(code);
}

/** Runs what writes to a folder. @throws ModelDiskFullError, ModelCacheError in place of the system's own errors. */
export async function writingTo<T>(folder: string, write: () => Promise<T>): Promise<T> {
  try {
    return await write();
  } catch (error) {
    const { code, message } = error as NodeJS.ErrnoException;
    if (fullDisk.has(code)) throw new ModelDiskFullError('the download', folder, '');
    throw noWriting.has(code) ? new ModelCacheError(message, folder) : error;
  }
}

/** Git's hash of a blob begins with a header. */
function hashOf({ hash, size }: HubFile): Hash {
  return hash.length === 64 ? createHash('sha256') : createHash('sha1').update(`blob ${size}\0`);
}

export async function hashFile(path: string, hash: Hash): Promise<Hash> {
  for await (const chunk of createReadStream(path, { highWaterMark: 1024 * 1024 })) hash.update(chunk as Buffer);
  return hash;
}
