import { existsSync, mkdirSync, readdirSync, rmSync, statSync, utimesSync, writeFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';

const day = 86_400_000;

export interface EvictionLimits {
  /** The limit for all entries together. */
  maxBytes: number;
  /** Entries that were unused for longer are removed. Default: 30 days. */
  unusedMs?: number;
  /** In ms since 1970. Default: the clock. */
  now?: number;
}

/**
 * Marks an entry of a cache folder as used now, and as in use while this process lives. An entry is all files and folders whose names begin with its key
 * (40 hex digits). Does nothing in a read-only folder, where nothing can be removed either.
 */
export function useCacheEntry(directory: string, key: string): void {
  try {
    mkdirSync(directory, { recursive: true });
    writeFileSync(join(directory, `${key}.${hostname()}.${process.pid}.use`), '');
    const now = new Date();
    for (const name of readdirSync(directory)) if (name.startsWith(key)) utimesSync(join(directory, name), now, now);
  } catch {}
}

/**
 * Removes entries of cache folders that share one limit: those unused for `unusedMs`, then the least recently used until the rest fits. An entry stays while a
 * living process of this machine uses it, or a process of another machine that shares the folder has used it within `unusedMs`. Temporary files (`.tmp`) are
 * removed an hour after their last write.
 */
export function evictCacheEntries(
  directories: readonly string[],
  { maxBytes, unusedMs = 30 * day, now = Date.now() }: EvictionLimits,
): void {
  const entries = directories.flatMap((directory) => entriesOf(directory, now)).sort((a, b) => b.usedAt - a.usedAt);
  let bytes = 0;
  for (const { paths, bytes: size, usedAt, isUsed } of entries) {
    bytes += size;
    const isForgotten = now - usedAt > unusedMs;
    if (isUsed(isForgotten) || !(isForgotten || bytes > maxBytes)) continue;
    for (const path of paths) remove(path);
    bytes -= size;
  }
}

interface Entry {
  paths: string[];
  bytes: number;
  usedAt: number;
  isUsed(isForgotten: boolean): boolean;
}

function entriesOf(directory: string, now: number): Entry[] {
  const entries = new Map<string, Entry & { users: string[] }>();
  for (const name of existsSync(directory) ? readdirSync(directory) : []) {
    const [key] = /^[0-9a-f]{40}(?=\.|$)/.exec(name) ?? [];
    if (key === undefined) continue;
    const users: string[] = [];
    const entry = entries.get(key) ?? { paths: [], bytes: 0, usedAt: 0, users, isUsed: (old) => users.some((user) => isAlive(user, old)) };
    entries.set(key, entry);
    const path = join(directory, name);
    const bytes = sizeOf(path, now);
    if (name.endsWith('.tmp')) continue; // it is being written
    entry.usedAt = Math.max(entry.usedAt, statSync(path, { throwIfNoEntry: false })?.mtimeMs ?? 0);
    entry.bytes += bytes;
    entry.paths.push(path);
    if (name.endsWith('.use')) entry.users.push(name.slice(41, -4));
  }
  return [...entries.values()];
}

/** Bytes of a file or a folder. */
function sizeOf(path: string, now: number): number {
  const stats = statSync(path, { throwIfNoEntry: false });
  if (stats === undefined) return 0; // removed meanwhile
  if (stats.isDirectory()) return readdirSync(path).reduce((sum, name) => sum + sizeOf(join(path, name), now), 0);
  if (!path.endsWith('.tmp') || now - stats.mtimeMs < day / 24) return stats.size;
  remove(path);
  return 0;
}

/** @param user `HOST.PID`. A process of another machine counts as alive while the entry is not forgotten. */
function isAlive(user: string, isForgotten: boolean): boolean {
  const dot = user.lastIndexOf('.');
  if (user.slice(0, dot) !== hostname()) return !isForgotten;
  try {
    process.kill(Number(user.slice(dot + 1)), 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}

/** Ignores failures: a full cache must not stop the engine. */
function remove(path: string): void {
  try {
    rmSync(path, { recursive: true, force: true });
  } catch {}
}
