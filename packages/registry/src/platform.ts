import { graftError, kindOf, messageOf, nearestNames, quotedList } from '@graft/common';

/** `device`: the real thing is here. `emulated`: it runs, on something else. `absent`: it cannot run. */
export type DeviceState = 'device' | 'emulated' | 'absent';

export interface Detection {
  readonly device: DeviceState;
  /** Why, in one sentence: which file, driver or count decided. */
  readonly reason?: string;
  /** How its user makes the device available, for the error when an absent one is asked for: `install the driver`. */
  readonly fix?: string;
  /** Other findings, under the platform's own names: a driver's version, bytes of memory, a generation. */
  readonly properties?: Readonly<Record<string, unknown>>;
}

/** The answer of a platform's detector, with its defaults filled in. */
export interface Detected extends Required<Omit<Detection, 'device' | 'fix'>>, Pick<Detection, 'fix'> {
  /** `failed`: `detect()` threw; `reason` is its message. */
  readonly device: DeviceState | 'failed';
}

/** The version of `Platform`: a number more for each change that an implementation must follow. */
export const platformContract = 1;

/** The hardware that a plugin serves. The plugin binds its backend and runner through the container; the registry only chooses. */
export interface Platform {
  /** The version of this interface that it was written for; another one is refused. Default: the present one. */
  readonly contract?: typeof platformContract;
  /** The name used by overrides, hooks and `--platform`. */
  readonly name: string;
  /** Chosen when no other platform has a device. */
  readonly fallback?: boolean;
  /** Platforms over which it is chosen where they have a device too, such as slower ways to the same one. */
  readonly preferredOver?: readonly string[];
  /** The execution modes it offers, the default first. */
  readonly modes: readonly string[];
  /** Looks for the device. Pure: no side effects, no state; called once at each choice. */
  detect(): DeviceState | Detection | Promise<DeviceState | Detection>;
  /**
   * Refuses wrong options (`--platform-options`) before weights are read. A platform without this method takes no options.
   * @param detected what its detector found
   */
  checkOptions?(options: Readonly<Record<string, unknown>>, served: ServedSizes, detected: Detected): void;
}

/** The most that an engine serves. */
export interface ServedSizes {
  readonly maxSequences: number;
  /** Tokens of a prompt in one piece. */
  readonly prefillTokens: number;
  /** Tokens of a sequence, prompt and answer. */
  readonly maxModelLength: number;
}

export interface DetectedPlatform extends Detected {
  readonly platform: Platform;
  /** The error that `detect()` threw. */
  readonly cause?: unknown;
}

/** `reason` says why this platform was chosen, and what its detector said. */
export interface SelectedPlatform extends DetectedPlatform {
  readonly device: 'device' | 'emulated';
}

/**
 * Chooses the platform. By name, only its own detector runs, `emulated` is accepted and `absent` or a throw is an error: another platform
 * is never taken instead. Without a name each detector runs once: the one platform that has a device is chosen, or the one that is preferred over the others
 * that have, else the fallback.
 * @param loadedPlugins names, for the error of an unknown platform; `LoadedPlugins.selectPlatform` gives them.
 * @throws PlatformAnswerError; UnknownPlatformError, PlatformUnavailableError for a name; PlatformConflictError, NoPlatformError without one.
 */
export async function selectPlatform(
  platforms: readonly Platform[],
  requested?: string,
  loadedPlugins: readonly string[] = [],
): Promise<SelectedPlatform> {
  const names = platforms.map(({ name }) => name);
  if (requested !== undefined && !names.includes(requested)) throw new UnknownPlatformError(requested, names, loadedPlugins);
  const asked = platforms.filter(({ name }) => requested === undefined || name === requested);
  const answers = await Promise.all(asked.map(detectPlatform));
  const wrong = answers.find(({ cause }) => cause instanceof PlatformAnswerError);
  if (wrong !== undefined) throw wrong.cause;
  const named = answers.find(({ platform }) => platform.name === requested);
  if (named !== undefined && !isUsable(named)) throw new PlatformUnavailableError(named);
  const chosen = named === undefined ? chooseAutomatically(answers) : { ...named, reason: `asked for by name; ${named.reason}` };
  return { ...chosen, device: chosen.device as SelectedPlatform['device'] };
}

/** Runs a platform's detector, once. It may throw; this does not. */
export async function detectPlatform(platform: Platform): Promise<DetectedPlatform> {
  try {
    const answer = await platform.detect();
    const detection: Detection = typeof answer === 'string' ? { device: answer } : answer;
    if (!['device', 'emulated', 'absent'].includes(detection?.device)) throw new PlatformAnswerError(platform.name, answer);
    const { device, reason = `detect() answered "${device}"`, fix, properties = {} } = detection;
    return { platform, device, reason, properties, ...(fix !== undefined && { fix }) };
  } catch (cause) {
    return { platform, device: 'failed', reason: messageOf(cause), properties: {}, cause };
  }
}

const isUsable = ({ device }: DetectedPlatform): boolean => device === 'device' || device === 'emulated';

function chooseAutomatically(answers: readonly DetectedPlatform[]): DetectedPlatform {
  const withDevice = answers.filter(({ device, platform }) => device === 'device' && !platform.fallback);
  const outdone = new Set(withDevice.flatMap(({ platform }) => platform.preferredOver ?? []));
  const preferred = withDevice.filter(({ platform }) => !outdone.has(platform.name));
  const fallbacks = answers.filter((answer) => isUsable(answer) && answer.platform.fallback === true);
  const candidates = [preferred, withDevice, fallbacks].find(({ length }) => length > 0) ?? [];
  if (candidates.length > 1) throw new PlatformConflictError(candidates);
  const [chosen] = candidates;
  if (chosen === undefined) throw new NoPlatformError(answers);
  if (withDevice.length > 1) {
    const passedOver = withDevice.filter((answer) => answer !== chosen).map(({ platform }) => platform.name);
    return { ...chosen, reason: `preferred over ${quotedList(passedOver, 'none', 'and')}; ${chosen.reason}` };
  }
  if (withDevice.length === 1) return { ...chosen, reason: `the only platform with a device; ${chosen.reason}` };
  const others = answers.filter((answer) => answer !== chosen).map((answer) => `${answer.platform.name} ${describePlatform(answer)}`);
  const why = others.length === 0 ? 'and the only platform loaded' : `since no other platform has a device (${others.join('; ')})`;
  return { ...chosen, reason: `the fallback, ${why}` };
}

/** `is absent: no /dev/accel`, the form used in reasons and errors. */
export function describePlatform({ device, reason }: Detected): string {
  return device === 'failed' ? `could not be detected: ${reason}` : `is ${device}: ${reason}`;
}

const describeEach = (answers: readonly DetectedPlatform[]): string =>
  answers.map((answer) => `"${answer.platform.name}" ${describePlatform(answer)}`).join('; ');

export class UnknownPlatformError extends graftError(
  'GRAFT_UNKNOWN_PLATFORM',
  (requested: string, known: readonly string[], plugins: readonly string[]) => ({
    what: `No loaded plugin brings the platform "${requested}".`,
    where: `platforms loaded: ${quotedList(known, 'none', 'and')}; plugins loaded: ${quotedList(plugins, 'none', 'and')}`,
    fix: `choose ${quotedList(nearestNames(requested, known), 'one that is loaded')}, or load the plugin that brings it.`,
  }),
) {}

export class PlatformAnswerError extends graftError('GRAFT_PLATFORM_ANSWER', (name: string, answer: unknown) => ({
  what: `The detect() of platform "${name}" answered ${kindOf(answer)}.`,
  where: `platform "${name}"`,
  fix: 'answer "device", "emulated" or "absent", or { device, reason }.',
})) {}

export class PlatformUnavailableError extends graftError('GRAFT_PLATFORM_UNAVAILABLE', (answer: DetectedPlatform) => ({
  what: `Platform "${answer.platform.name}" was asked for and ${describePlatform(answer)}.`,
  where: `platform "${answer.platform.name}"`,
  fix: `${answer.fix ?? 'make its device available'}, or ask for another platform; none is chosen in its place.`,
  cause: answer.cause,
})) {}

export class PlatformConflictError extends graftError('GRAFT_PLATFORM_CONFLICT', (candidates: readonly DetectedPlatform[]) => ({
  what: `${candidates.length} platforms could be chosen: ${quotedList(
    candidates.map(({ platform }) => platform.name),
    'none',
    'and',
  )}.`,
  where: describeEach(candidates),
  fix: `choose one by name, for example --platform ${candidates[0]!.platform.name}.`,
})) {}

export class NoPlatformError extends graftError('GRAFT_NO_PLATFORM', (answers: readonly DetectedPlatform[]) => ({
  what: answers.length === 0 ? 'No loaded plugin brings a platform.' : 'No platform has a device, and none can stand in for it.',
  where: describeEach(answers) || 'no platforms',
  fix: 'add @graft/cpu to the plugins (package.json or --plugins; its platform has `fallback: true`), or choose an emulated platform by name.',
})) {}
