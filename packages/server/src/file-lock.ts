import { open, readFile, rm, stat, utimes } from 'node:fs/promises';
import { hostname } from 'node:os';
import { setTimeout as wait } from 'node:timers/promises';
import { messageOf } from '@graft/common';

export interface FileLock {
  release(): Promise<void>;
}

interface Holder {
  pid: number;
  host: string;
}

const touchEveryMs = 2000;
const staleAfterMs = 15_000;

/**
 * Waits for, then holds a lock file that names its process. A lock whose process is dead (on this host), or that nobody
 * has touched for 15 s, is taken over: a killed process must not block the next start. It saves work and is no proof:
 * two processes that take over the same stale lock at the same instant may both go on, so what they do must stand that.
 * @throws the signal's reason.
 */
export async function holdLock(path: string, options: { signal?: AbortSignal; onWait?: (pid: number) => void }): Promise<FileLock> {
  for (let hasWaited = false; ; ) {
    options.signal?.throwIfAborted();
    if (await take(path)) break;
    const holder = await readHolder(path);
    if (holder === 'stale') {
      await rm(path, { force: true });
      continue;
    }
    if (!hasWaited && holder !== 'gone') options.onWait?.(holder.pid);
    hasWaited = true;
    await wait(200, undefined, options.signal === undefined ? {} : { signal: options.signal }).catch(() =>
      options.signal?.throwIfAborted(),
    );
  }
  const touch = setInterval(() => void utimes(path, new Date(), new Date()).catch(() => undefined), touchEveryMs);
  touch.unref();
  return {
    release: async () => {
      clearInterval(touch);
      await rm(path, { force: true });
    },
  };
}

/** Whether a process of this machine with this id runs. */
export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return messageOf(error).includes('EPERM');
  }
}

async function take(path: string): Promise<boolean> {
  try {
    const file = await open(path, 'wx');
    const holder: Holder = { pid: process.pid, host: hostname() };
    await file.writeFile(JSON.stringify(holder)).finally(() => file.close());
    return true;
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'EEXIST') return false;
    throw error;
  }
}

async function readHolder(path: string): Promise<Holder | 'stale' | 'gone'> {
  const [text, file] = await Promise.all([readFile(path, 'utf8').catch(() => null), stat(path).catch(() => null)]);
  if (text === null || file === null) return 'gone';
  if (Date.now() - file.mtimeMs > staleAfterMs) return 'stale';
  const holder = parseHolder(text);
  // Written a moment after it is created; an empty one of some age was left by a kill between the two.
  if (holder === null) return Date.now() - file.mtimeMs > 1000 ? 'stale' : 'gone';
  return holder.host === hostname() && !isAlive(holder.pid) ? 'stale' : holder;
}

function parseHolder(text: string): Holder | null {
  try {
    const value: unknown = JSON.parse(text);
    const isHolder = typeof value === 'object' && value !== null && 'pid' in value && 'host' in value;
    return isHolder ? { pid: Number(value.pid), host: String(value.host) } : null;
  } catch {
    return null;
  }
}
