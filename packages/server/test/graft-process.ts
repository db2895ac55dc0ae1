import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { onTestFinished } from 'vitest';

export const bin = fileURLToPath(new URL('../bin/graft.mjs', import.meta.url));

const packages = fileURLToPath(new URL('../..', import.meta.url));

export interface GraftProcess {
  child: ChildProcessWithoutNullStreams;
  out: () => string;
  err: () => string;
  /** Null after a signal. */
  code: Promise<number | null>;
}

/** The command as a user runs it: a separate process, on the built files, from the folder of the packages. It ends with the test. */
export function graftProcess(args: readonly string[], environment: NodeJS.ProcessEnv, cwd = packages): GraftProcess {
  return collected(spawn(process.execPath, [bin, ...args], { cwd, env: { ...process.env, ...environment } }));
}

/** A process with what it has printed. */
export function collected(child: ChildProcessWithoutNullStreams): GraftProcess {
  const read = (stream: NodeJS.ReadableStream) => {
    let text = '';
    stream.on('data', (chunk: Buffer) => {
      text += chunk.toString();
    });
    return () => text;
  };
  onTestFinished(() => void child.kill('SIGKILL'));
  return { child, out: read(child.stdout), err: read(child.stderr), code: new Promise((resolve) => child.once('close', resolve)) };
}
