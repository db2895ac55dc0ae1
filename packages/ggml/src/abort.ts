import { writeSync } from 'node:fs';
import { system } from '@graft/system';
import koffi from 'koffi';
import { GgmlAbortError } from './errors.ts';
import type { Ggml, Handle } from './library.ts';

/** The exit code of a process that ggml ends. */
const exitCode = 3;

/** `std::set_terminate`, which C++ on Windows names otherwise: it sets what runs after an exception that nothing catches. */
const setTerminate = '_ZSt13set_terminatePFvvE';

/**
 * The last words of a process that ggml ends: by an assertion, which calls `abort`, or by an exception of C++. It says what was asked of ggml, then exits with
 * code 3. ggml calls back into the thread of JavaScript that computed last, whose event loop is free while a computation runs on other threads.
 */
export class AbortWatch {
  private readonly library: Ggml;
  private readonly running = new Set<() => string>();
  private readonly onAbort: Handle<'abort_callback'>;
  private readonly onTerminate: bigint;
  private readonly setTerminate: ((callback: bigint) => unknown) | null;

  constructor(library: Ggml) {
    this.library = library;
    const callback = (type: string, call: (message: string) => void) => koffi.register(call, koffi.pointer(koffi.proto(type)));
    this.onAbort = callback('void (const char *message)', (message) => this.end(message)) as never;
    this.onTerminate = callback('void ()', () => this.end('An exception of C++ reached no caller.'));
    this.setTerminate = library.optional(`void *${setTerminate}(void *callback)`);
    this.begin();
    process.once('exit', () => this.leave());
  }

  /** Notes a computation until the result is disposed. @param describe is called if ggml ends the process. */
  computing(describe: () => string): Disposable {
    this.begin();
    this.running.add(describe);
    return { [Symbol.dispose]: () => void this.running.delete(describe) };
  }

  private begin(): void {
    this.library.calls.ggml_set_abort_callback(this.onAbort);
    this.setTerminate?.(this.onTerminate);
  }

  /** A function of JavaScript must not be called after its thread. */
  private leave(): void {
    const { calls } = this.library;
    const current = calls.ggml_set_abort_callback(null);
    if (current !== this.onAbort) calls.ggml_set_abort_callback(current);
  }

  private end(message: string): void {
    const [, place, said = message] = /^(?:.*\/)?(ggml\/\S+:\d+): ([\s\S]*)$/.exec(message) ?? [];
    const error = new GgmlAbortError(
      said,
      place ?? 'ggml',
      [...this.running].map((describe) => describe()),
      this.library.lastCall,
    );
    writeSync(2, `${error.name}: ${error.message}\n  code: ${error.code}\n`);
    system.end(exitCode);
  }
}
