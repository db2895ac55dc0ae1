import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { GgmlCallError, GgmlLibraryError } from './errors.ts';
import { type Accelerator, findLibraries } from './library.ts';

/** A device as the probe found it; `fault` says why it cannot compute. */
export interface ProbedDevice {
  readonly name: string;
  readonly description: string;
  readonly type: string;
  readonly memory: { readonly free: number; readonly total: number };
  /** Its driver with the version, where the system tells it. */
  readonly driver: string | null;
  readonly fault: string | null;
}

/** A line that the child prints. */
export type ProbeLine =
  | { readonly refused: { readonly what: string; readonly fix: string | undefined } }
  | { readonly found: Omit<ProbedDevice, 'fault'> }
  | { readonly tried: { readonly name: string; readonly fault: string | null } };

/** The first use of a GPU compiles its kernels. */
const defaultTimeoutMs = 300_000;

/**
 * Starts each device of an accelerator, or of the CPU, in a child process and computes a graph on it, because a faulty driver ends the process that starts it.
 * @throws GgmlPlatformError; GgmlLibraryError when the package or a library of the system is missing; GgmlCallError when the child ends without an answer
 */
export async function probeDevices(accelerator: Accelerator = null, { timeoutMs = defaultTimeoutMs } = {}): Promise<ProbedDevice[]> {
  findLibraries(accelerator);
  const { stdout, end } = await runChild(entryUrl(), accelerator === null ? [] : [accelerator], timeoutMs);
  const lines = stdout.split('\n').filter((line) => line.startsWith('{'));
  const parsed = lines.map((line) => JSON.parse(line) as ProbeLine);
  for (const line of parsed) if ('refused' in line) throw new GgmlLibraryError(line.refused);
  const faults = new Map(parsed.flatMap((line) => ('tried' in line ? [[line.tried.name, line.tried.fault]] : [])));
  const found = parsed.flatMap((line) => ('found' in line ? [line.found] : []));
  if (found.length === 0 && end !== null)
    throw new GgmlCallError({ what: `The process that tries ggml's devices ${end}`, fix: 'update the driver, or use the platform cpu.' });
  return found.map((device) => ({ ...device, fault: faults.get(device.name) ?? (faults.has(device.name) ? null : `The trial ${end}`) }));
}

/** What a module prints when it runs in a process of its own; `end` says how the process failed, and what it printed last. @internal */
export function runChild(entry: URL, args: readonly string[], timeoutMs: number): Promise<{ stdout: string; end: string | null }> {
  return new Promise((resolve) => {
    execFile(process.execPath, [fileURLToPath(entry), ...args], { timeout: timeoutMs }, (error, stdout, stderr) => {
      if (error === null) return resolve({ stdout, end: null });
      const { code, signal, killed } = error as { code?: number; signal?: string; killed?: boolean };
      const end = killed === true ? `did not answer in ${timeoutMs / 1000} s` : `ended with ${signal ?? `code ${code}`}`;
      resolve({ stdout, end: `${end}. It says:\n${stderr.trimEnd().split('\n').slice(0, 12).join('\n')}` });
    });
  });
}

function entryUrl(): URL {
  return import.meta.url.endsWith('.ts')
    ? new URL('../dist/probe-entry.js', import.meta.url)
    : new URL('./probe-entry.js', import.meta.url);
}
