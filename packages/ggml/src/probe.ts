import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { GgmlCallError } from './errors.ts';
import { type Accelerator, findLibraries } from './library.ts';

/** A device as the probe found it; `fault` says why it cannot compute. */
export interface ProbedDevice {
  readonly name: string;
  readonly description: string;
  readonly type: string;
  readonly memory: { readonly free: number; readonly total: number };
  readonly fault: string | null;
}

/** The first use of a GPU compiles its kernels. */
const defaultTimeoutMs = 120_000;

/**
 * Starts each device in a child process and computes a graph on it, because a faulty driver ends the process that starts it.
 * @throws GgmlPlatformError; GgmlLibraryError when the package is missing; GgmlCallError when the child ends without an answer
 */
export async function probeDevices(accelerator: Accelerator = null, { timeoutMs = defaultTimeoutMs } = {}): Promise<ProbedDevice[]> {
  findLibraries(accelerator);
  const answer = await runChild(entryUrl(), accelerator === null ? [] : [accelerator], timeoutMs);
  return JSON.parse(answer) as ProbedDevice[];
}

/** What a module prints when it runs in a process of its own. @throws GgmlCallError with the end of its messages @internal */
export function runChild(entry: URL, args: readonly string[], timeoutMs: number): Promise<string> {
  return new Promise((resolve, reject) => {
    execFile(process.execPath, [fileURLToPath(entry), ...args], { timeout: timeoutMs }, (error, stdout, stderr) => {
      if (error === null) return resolve(stdout);
      const { code, signal, killed } = error as { code?: number; signal?: string; killed?: boolean };
      const end = killed === true ? `did not answer in ${timeoutMs / 1000} s` : `ended with ${signal ?? `code ${code}`}`;
      const lines = stderr.trimEnd().split('\n').slice(0, 12).join('\n');
      reject(
        new GgmlCallError({
          what: `The process that tries ggml's devices ${end}. It says:\n${lines}`,
          fix: 'update the driver, or use the platform cpu.',
        }),
      );
    });
  });
}

function entryUrl(): URL {
  return import.meta.url.endsWith('.ts')
    ? new URL('../dist/probe-entry.js', import.meta.url)
    : new URL('./probe-entry.js', import.meta.url);
}
