import { join, sep } from 'node:path';
import { pathToFileURL } from 'node:url';
import { GraftError, graftError, messageOf } from '@graft/common';
import type { ProgressOutput } from './progress.ts';

/** The streams of a command: those of the process, or of a test. */
export interface Terminal {
  stdin: NodeJS.ReadableStream & { isTTY?: boolean };
  stdout: NodeJS.WritableStream & { isTTY?: boolean };
  stderr: ProgressOutput;
}

/** Any error that is no GraftError: a bug, which keeps its stack. */
class UnexpectedError extends graftError('GRAFT_UNEXPECTED', (cause: unknown) => ({
  what: `An unexpected error, which is a bug in Graft: ${cause instanceof Error ? (cause.stack ?? cause.message) : messageOf(cause)}`,
  fix: 'report it with this text.',
})) {}

/** What, where and fix, without a stack, for a user; `asJson`, the record as one line. */
export function describeFailure(error: unknown, asJson: boolean): string {
  const known = GraftError.is(error) ? error : new UnexpectedError(error);
  return asJson ? `${JSON.stringify(known)}\n` : `graft: ${known.message}\n  code: ${known.code}\n`;
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
