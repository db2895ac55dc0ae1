import { open, readFile, rm, stat, utimes } from 'node:fs/promises';
import { hostname } from 'node:os';
import { setTimeout as wait } from 'node:timers/promises';

const touchEveryMs = 2000;
const staleAfterMs = 15_000;

/**
 * Waits for a lock file, then holds it; its text is the holder, `HOST PID`. A lock is stale when its process is dead (on this host) or last touched it more
 * than 15 s ago, so a killed process does not block the next start. The lock saves work but proves nothing: two processes that take over a stale lock at
 * the same instant may both go on, and their work must tolerate that.
 * @throws the signal's reason.
 */
export async function holdLock(path: string, options: { signal?: AbortSignal; onWait?: (pid: number) => void }): Promise<AsyncDisposable> {
  const { signal, onWait } = options;
  for (let hasWaited = false; !(await take(path)); ) {
    signal?.throwIfAborted();
    const holder = await readHolder(path);
    if (holder === 'stale') {
      await rm(path, { force: true });
      continue;
    }
    if (!hasWaited && holder !== null) onWait?.(holder);
    hasWaited = true;
    await wait(200, undefined, signal === undefined ? {} : { signal }).catch(() => signal?.throwIfAborted());
  }
  const touch = setInterval(() => void utimes(path, new Date(), new Date()).catch(() => undefined), touchEveryMs).unref();
  return {
    [Symbol.asyncDispose]: async () => {
      clearInterval(touch);
      await rm(path, { force: true });
    },
  };
}

/** Whether a process with this id runs on this machine. */
export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return (error as NodeJS.ErrnoException).code === 'EPERM';
  }
}

async function take(path: string): Promise<boolean> {
  try {
    const file = await open(path, 'wx');
    await file.writeFile(`${hostname()} ${process.pid}`).finally(() => file.close());
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'EEXIST') return false;
    throw error;
  }
}

/** The process that holds the lock; null when that is unknown at this moment. */
async function readHolder(path: string): Promise<number | 'stale' | null> {
  const [text, file] = await Promise.all([readFile(path, 'utf8').catch(() => null), stat(path).catch(() => null)]);
  if (text === null || file === null) return null; // released meanwhile
  const ageMs = Date.now() - file.mtimeMs;
  const [host, pid] = text.split(' ');
  // The text is written a moment after the file is created; a kill between the two leaves an empty file.
  if (pid === undefined) return ageMs > 1000 ? 'stale' : null;
  return ageMs > staleAfterMs || (host === hostname() && !isAlive(Number(pid))) ? 'stale' : Number(pid);
}
