import { join, sep } from 'node:path';
import { pathToFileURL } from 'node:url';
import { GraftError, messageOf } from '@graft/common';
import type { ProgressOutput } from './progress.ts';

/** The streams of a command: those of the process, or of a test. */
export interface Terminal {
  stdin: NodeJS.ReadableStream & { isTTY?: boolean };
  stdout: NodeJS.WritableStream & { isTTY?: boolean };
  stderr: ProgressOutput;
}

/** What, where and fix, without a stack, for a user. Any other error is a bug and keeps its stack. */
export function describeFailure(error: unknown): string {
  if (GraftError.is(error)) return `graft: ${error.message}\n  code: ${error.code}\n`;
  const text = error instanceof Error ? (error.stack ?? error.message) : messageOf(error);
  return `graft: an unexpected error, which is a bug in Graft: ${text}\n`;
}

/** Removes control characters except newline and tab. A model's text may hold escape sequences, which would drive the terminal. */
export function printable(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: this removes them.
  return text.replace(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f]/g, '');
}

/** Prints an explanation, with URLs of files below the working directory as paths from there; with `--json`, the record behind its text. */
export function print({ stdout }: Terminal, json: boolean | undefined, { text, record }: { text: string; record: unknown }): void {
  const here = pathToFileURL(join(process.cwd(), sep)).href;
  stdout.write(`${json === true ? JSON.stringify(record, null, 2) : text.trimEnd().replaceAll(here, '')}\n`);
}

/** A table's rows as lines with columns of equal width. */
export function aligned(rows: readonly string[][], isRight: (column: number) => boolean): string {
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)));
  const cell = (text: string, i: number) => (isRight(i) ? text.padStart(widths[i]!) : text.padEnd(widths[i]!));
  return rows.map((row) => row.map(cell).join('  ').trimEnd()).join('\n');
}

/** Aborts on the first SIGINT or SIGTERM; the second one ends the process at once. */
export function stopSignal(): Disposable & { readonly signal: AbortSignal } {
  const controller = new AbortController();
  const onSignal = (name: NodeJS.Signals) => {
    const stopped = new StoppedError(name);
    if (controller.signal.aborted) process.exit(stopped.exitCode);
    controller.abort(stopped);
  };
  process.on('SIGINT', onSignal).on('SIGTERM', onSignal);
  return {
    signal: controller.signal,
    [Symbol.dispose]: () => void process.off('SIGINT', onSignal).off('SIGTERM', onSignal),
  };
}

/** The user asked the process to stop before it was ready. */
export class StoppedError extends GraftError {
  readonly exitCode: number;

  constructor(name: NodeJS.Signals) {
    super({ code: 'GRAFT_STOPPED', what: `Stopped by ${name}.` });
    this.exitCode = name === 'SIGINT' ? 130 : 143;
  }
}
