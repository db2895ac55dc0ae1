/** The parts of an error: what happened (with both values), where, and how to fix it. */
export interface GraftErrorFacts {
  /** Stable; a row of docs/errors.md. */
  code: `GRAFT_${string}`;
  what: string;
  /** The file, key, path, plugin or parameter at fault. */
  where?: string | undefined;
  fix?: string | undefined;
  cause?: unknown;
}

const marker = Symbol.for('graft.error');

/**
 * The base of every error that Graft throws on purpose. Its message is `what`, `where` and `fix` on one line each.
 * `GraftError.is` works across duplicate installs, where `instanceof` does not.
 */
export class GraftError extends Error {
  readonly code: `GRAFT_${string}`;
  readonly what: string;
  readonly where: string | undefined;
  readonly fix: string | undefined;

  constructor({ code, what, where, fix, cause }: GraftErrorFacts) {
    const lines = [what];
    if (where !== undefined) lines.push(`  where: ${where}`);
    if (fix !== undefined) lines.push(`  fix: ${fix}`);
    super(lines.join('\n'), cause === undefined ? undefined : { cause });
    this.name = new.target.name;
    this.code = code;
    this.what = what;
    this.where = where;
    this.fix = fix;
    Object.defineProperty(this, marker, { value: true });
  }

  /** The same error with its place. */
  at(where: string): this {
    const { code, what, fix, cause } = this;
    return Reflect.construct(GraftError, [{ code, what, where, fix, cause }], this.constructor) as this;
  }

  static is(error: unknown): error is GraftError {
    return typeof error === 'object' && error !== null && marker in error;
  }

  /** A record that crosses a worker boundary or goes into JSON. */
  toJSON(): GraftErrorRecord {
    return { name: this.name, code: this.code, what: this.what, where: this.where ?? null, fix: this.fix ?? null };
  }

  /** The inverse of `toJSON`: an error with the same code and words. */
  static fromJSON({ name, code, what, where, fix }: GraftErrorRecord): GraftError {
    const error = new GraftError({ code, what, where: where ?? undefined, fix: fix ?? undefined });
    error.name = name;
    return error;
  }
}

/**
 * The base of an error class: one code, and the words that `facts` makes from the constructor's arguments.
 * `class NoDeviceError extends graftError('GRAFT_NO_DEVICE', (name: string) => ({ what: ... })) {}`
 */
export function graftError<Args extends unknown[]>(code: GraftErrorFacts['code'], facts: (...args: Args) => Omit<GraftErrorFacts, 'code'>) {
  return class extends GraftError {
    constructor(...args: Args) {
      super({ code, ...facts(...args) });
    }
  };
}

/** `graftError` for a class whose instances bring their own words. @param usualFix of an error that brings no fix. */
export const wordedError = (code: GraftErrorFacts['code'], usualFix: string) =>
  graftError(code, (what: string, where: string, fix: string = usualFix) => ({ what, where, fix }));

/** An error that reached no caller: of a timer, or of a promise that nobody awaited. An error with a code is kept as it is. */
export class UncaughtError extends graftError('GRAFT_UNCAUGHT', (cause: unknown) => ({
  what: `An error was thrown where nothing could catch it: ${cause instanceof Error ? (cause.stack ?? cause.message) : messageOf(cause)}`,
  where: 'a timer, an event or a promise that nobody awaited',
  fix: 'in the plugin that the stack names, await what it starts and catch the errors of timers; if it names none, report this text.',
  cause,
})) {
  static of(error: unknown): GraftError {
    return GraftError.is(error) ? error : new UncaughtError(error);
  }
}

export interface GraftErrorRecord {
  name: string;
  code: `GRAFT_${string}`;
  what: string;
  where: string | null;
  fix: string | null;
}

/** The message of any thrown value, to quote a cause. */
export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
