import { spawn } from 'node:child_process';
import { graftError } from '@graft/common';

export interface PythonOptions {
  command: string;
  environment: NodeJS.ProcessEnv;
  signal: AbortSignal | undefined;
  /** TMPDIR of the child. */
  temporary: string;
}

/** A Python child process could not be started, or failed. */
export class PythonError extends graftError('GRAFT_PYTHON_FAILED', (command: string, what: string) => ({
  what,
  where: command,
  fix: 'install Python 3 with pip so that `python3 -m pip --version` answers.',
})) {}

/** Runs Python to its end. @throws PythonError with the last lines that it wrote to stderr; the signal's reason. */
export async function runPython(args: string[], { command, environment, signal, temporary }: PythonOptions): Promise<void> {
  signal?.throwIfAborted();
  const env = { ...environment, TMPDIR: temporary };
  // Detached, with its own process group: `python3` may be a shim, and killing the shim alone would leave the real Python.
  const child = spawn(command, args, { env, stdio: ['ignore', 'ignore', 'pipe'], detached: true });
  const endGroup = () => killGroup(child.pid);
  let stderr = '';
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    stderr = (stderr + text).slice(-8000);
  });
  signal?.addEventListener('abort', endGroup, { once: true });
  process.once('exit', endGroup);
  try {
    const exit = await new Promise<number | NodeJS.Signals | null>((resolve, reject) => {
      child.once('error', (error) => reject(new PythonError(command, `${command} could not be started: ${error.message}`)));
      child.once('close', (code, killedBy) => resolve(code ?? killedBy));
    });
    signal?.throwIfAborted();
    if (exit !== 0) throw new PythonError([command, ...args].join(' '), lastWords(stderr) || `${command} ended with ${exit}.`);
  } finally {
    signal?.removeEventListener('abort', endGroup);
    process.off('exit', endGroup);
  }
}

function killGroup(pid: number | undefined): void {
  if (pid === undefined) return;
  try {
    process.kill(-pid, 'SIGKILL');
  } catch {
    // It has ended already.
  }
}

/** pip's errors, without its warnings about retries and versions. */
function lastWords(stderr: string): string {
  const lines = [...stderr.matchAll(/\S.*/g)].map(([line]) => line.trim());
  const errors = lines.filter((line) => line.startsWith('ERROR:')).map((line) => line.slice(6).trim());
  return (errors.length > 0 ? errors : lines.slice(-3)).join(' ');
}
