import { createHash, randomBytes } from 'node:crypto';
import { closeSync, fstatSync, fsyncSync, mkdirSync, openSync, readFileSync, renameSync, rmSync, writeSync } from 'node:fs';
import { join } from 'node:path';
import { messageOf, useCacheEntry } from '@graft/common';
import { partBytes, partsOf, type StoragePart, type WeightStorage } from '@graft/graph';
import type { PlannedParameter } from './convert-parameter.ts';
import { WeightCacheError } from './errors.ts';
import { readFully, withFile } from './file-bytes.ts';

/** Increased when the layout below or a conversion changes, which makes old caches invalid. */
const cacheVersion = 3;

/** The place of each part in the data file. It follows from the plan and is never read from disk. */
export interface CacheLayout {
  readonly parameters: ReadonlyMap<string, Readonly<Record<string, { offset: number; bytes: number }>>>;
  readonly bytes: number;
}

const page = 4096;
const line = 64;

/** Parts in order, at multiples of 64 bytes. Parts of a page or more begin at page boundaries, so each can be mapped. */
export function cacheLayout(plan: readonly PlannedParameter[]): CacheLayout {
  const parameters = new Map<string, Record<string, { offset: number; bytes: number }>>();
  let end = 0;
  for (const { name, format, shape } of plan) {
    const places: Record<string, { offset: number; bytes: number }> = {};
    for (const [part, description] of Object.entries(partsOf(format, shape))) {
      const bytes = partBytes(description);
      const alignment = bytes >= page ? page : line;
      const offset = Math.ceil(end / alignment) * alignment;
      places[part] = { offset, bytes };
      end = offset + bytes;
    }
    parameters.set(name, places);
  }
  return { parameters, bytes: end };
}

/** The cache's name: a hash of the checkpoint, the formats, and the source of each parameter. Hex. */
export function cacheKey(fingerprint: string, plan: readonly PlannedParameter[]): string {
  const hash = createHash('sha256').update(JSON.stringify([cacheVersion, fingerprint]));
  for (const { name, shape, format, segments } of plan) {
    hash.update(JSON.stringify([name, shape, format, segments.map((s) => [s.tensor.key, s.first, s.elements, s.arrangement])]));
  }
  return hash.digest('hex').slice(0, 40);
}

/**
 * Converted weights on disk: `KEY.weights`, and `KEY.json`, which is written last and shows that the data are complete. Equal keys mean equal bytes, so
 * two processes that build one cache write under different temporary names, and may rename over each other. A reader's open or mapped file stays valid.
 */
export class WeightCache {
  readonly dataPath: string;
  private readonly indexPath: string;
  private readonly directory: string;
  private readonly key: string;
  private readonly layout: CacheLayout;

  constructor(directory: string, key: string, layout: CacheLayout) {
    this.directory = directory;
    this.key = key;
    this.layout = layout;
    this.dataPath = join(directory, `${key}.weights`);
    this.indexPath = join(directory, `${key}.json`);
  }

  /** Whether the cache exists and is whole: the index's checksum, the size of the data and a sample of every part agree. */
  isComplete(): boolean {
    try {
      const text = readFileSync(this.indexPath, 'utf8');
      return withFile(this.dataPath, 'r', (data) => fstatSync(data).size === this.layout.bytes && text === this.indexText(data));
    } catch {
      return false; // missing, unreadable or shortened meanwhile
    }
  }

  /**
   * Writes the data through `fill` and publishes them. After a failure or an abort no file is left.
   * @throws WeightCacheError when the directory cannot be written, and whatever `fill` throws.
   */
  async build(fill: (write: (parameter: string, part: string, offset: number, bytes: Uint8Array) => void) => Promise<void>): Promise<void> {
    this.guard(() => mkdirSync(this.directory, { recursive: true }));
    const unique = `${this.key}.${process.pid}-${randomBytes(6).toString('hex')}`;
    const data = join(this.directory, `${unique}.weights.tmp`);
    const index = join(this.directory, `${unique}.json.tmp`);
    try {
      const descriptor = this.guard(() => openSync(data, 'wx+'));
      try {
        await fill((parameter, part, offset, bytes) => {
          this.guard(() => writeFully(descriptor, bytes, this.layout.parameters.get(parameter)![part]!.offset + offset));
        });
        this.guard(() => {
          fsyncSync(descriptor);
          writeDurably(index, this.indexText(descriptor));
        });
      } finally {
        closeSync(descriptor);
      }
      this.guard(() => {
        renameSync(data, this.dataPath);
        renameSync(index, this.indexPath);
        syncDirectory(this.directory);
      });
    } finally {
      rmSync(data, { force: true });
      rmSync(index, { force: true });
    }
  }

  /** Keeps the cache from being evicted for as long as this process lives. */
  use(): void {
    useCacheEntry(this.directory, this.key);
  }

  /** The parameter's storage. Its parts are read from the data file when used. */
  storage({ name, format, shape }: PlannedParameter): WeightStorage {
    const places = this.layout.parameters.get(name)!;
    const parts = Object.entries(partsOf(format, shape)).map(([part, description]): [string, StoragePart] => {
      const { offset, bytes } = places[part]!;
      return [part, { ...description, location: { path: this.dataPath, offset }, read: () => this.readPart(name, offset, bytes) }];
    });
    return { format, parts: Object.fromEntries(parts) };
  }

  /** The index of a data file: one line of JSON after its SHA-256. */
  private indexText(descriptor: number): string {
    const body = JSON.stringify({ version: cacheVersion, key: this.key, dataBytes: this.layout.bytes, sample: this.sample(descriptor) });
    return `${createHash('sha256').update(body).digest('hex')}\n${body}\n`;
  }

  /** SHA-256 over the first and last 256 bytes of every part: finds pages that never reached the disk, in milliseconds. */
  private sample(descriptor: number): string {
    const hash = createHash('sha256');
    for (const places of this.layout.parameters.values()) {
      for (const { offset, bytes } of Object.values(places)) {
        const length = Math.min(256, bytes);
        hash.update(readFully(descriptor, this.dataPath, offset, length));
        hash.update(readFully(descriptor, this.dataPath, offset + bytes - length, length));
      }
    }
    return hash.digest('hex');
  }

  private readPart(parameter: string, offset: number, bytes: number): Uint8Array {
    try {
      return withFile(this.dataPath, 'r', (data) => readFully(data, this.dataPath, offset, bytes));
    } catch (cause) {
      const what = `The cached weights of "${parameter}" cannot be read: ${messageOf(cause)}`;
      throw new WeightCacheError(what, this.dataPath, { fix: 'start again; the cache is rebuilt.', cause });
    }
  }

  private guard<R>(write: () => R): R {
    try {
      return write();
    } catch (cause) {
      throw new WeightCacheError(
        `The cache of converted weights (${this.layout.bytes} bytes) cannot be written: ${messageOf(cause)}.`,
        this.directory,
        { cause },
      );
    }
  }
}

function writeFully(descriptor: number, bytes: Uint8Array, offset: number): void {
  for (let done = 0; done < bytes.byteLength; ) done += writeSync(descriptor, bytes, done, bytes.byteLength - done, offset + done);
}

function writeDurably(path: string, text: string): void {
  withFile(path, 'wx', (descriptor) => {
    writeSync(descriptor, text);
    fsyncSync(descriptor);
  });
}

/** Makes the renames outlive a power cut. Some systems cannot open a directory; the data itself is synced already. */
function syncDirectory(path: string): void {
  if (process.platform !== 'win32') withFile(path, 'r', fsyncSync);
}
