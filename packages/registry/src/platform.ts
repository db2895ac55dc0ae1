import { messageOf } from '@graft/common';
import { type Detected, type DeviceState, describePlatform, type PlatformCandidate } from './platform-candidate.ts';
import { NoPlatformError, PlatformConflictError, PlatformUnavailableError, UnknownPlatformError } from './platform-errors.ts';

export type { Detected, DeviceState };

export interface Detection {
  readonly device: DeviceState;
  /** Why, in one sentence: which file, driver or count decided. */
  readonly reason?: string;
  /** What else it found: a driver's version, bytes of memory, a generation. */
  readonly properties?: Readonly<Record<string, unknown>>;
}

/** What a plugin says about the hardware it serves. It binds its backend and runner through the container; the registry only chooses. */
export interface Platform {
  /** The name used by overrides, hooks and `--platform`. */
  readonly name: string;
  /** Chosen when no other platform has a device. */
  readonly fallback?: boolean;
  /** The execution modes it offers, the default first. */
  readonly modes: readonly string[];
  /** Looks for the device. Pure: no side effects, no state; called once at each choice. */
  detect(): DeviceState | Detection | Promise<DeviceState | Detection>;
  /** Refuses options (`--platform-options`) that are wrong, before weights are read. A platform without this has none. */
  checkOptions?(options: Readonly<Record<string, unknown>>, served: ServedSizes): void;
}

/** What an engine serves at most. */
export interface ServedSizes {
  readonly maxSequences: number;
  /** Tokens of a prompt in one piece. */
  readonly prefillTokens: number;
  /** Tokens of a sequence, prompt and answer. */
  readonly maxModelLength: number;
}

export interface SelectedPlatform extends DetectedPlatform {
  readonly device: 'device' | 'emulated';
  /** Why this platform, and what its detector said. */
  readonly reason: string;
}

/**
 * Chooses the platform. Each detector runs exactly once. By name, `emulated` is accepted and `absent` or a throw is an error: another platform
 * is never taken instead. Without a name: the one platform that has a device, else the fallback.
 * @param loadedPlugins names, for the error of an unknown platform; `LoadedPlugins.selectPlatform` gives them.
 * @throws UnknownPlatformError, PlatformUnavailableError for a name; PlatformConflictError, NoPlatformError without one.
 */
export async function selectPlatform(
  platforms: readonly Platform[],
  requested?: string,
  loadedPlugins: readonly string[] = [],
): Promise<SelectedPlatform> {
  if (requested !== undefined && !platforms.some(({ name }) => name === requested)) {
    throw new UnknownPlatformError(
      requested,
      platforms.map(({ name }) => name),
      loadedPlugins,
    );
  }
  const answers = await Promise.all(platforms.map(detectPlatform));
  return requested === undefined ? chooseAutomatically(answers) : chooseByName(answers, requested);
}

/** A platform with what its detector said. */
export interface DetectedPlatform extends Detected {
  readonly platform: Platform;
}

interface Answer extends PlatformCandidate, DetectedPlatform {
  readonly cause?: unknown;
}

/** Runs a platform's detector, once. It may throw; this does not. */
export async function detectPlatform(platform: Platform): Promise<Answer> {
  const about = { platform, name: platform.name, fallback: platform.fallback ?? false };
  try {
    const answer = await platform.detect();
    const {
      device,
      reason = `detect() answered "${device}"`,
      properties = {},
    }: Detection = typeof answer === 'string' ? { device: answer } : answer;
    if (device !== 'device' && device !== 'emulated' && device !== 'absent') {
      throw new TypeError(`detect() answered ${JSON.stringify(device)}; it may answer "device", "emulated" or "absent"`);
    }
    return { ...about, device, reason, properties };
  } catch (cause) {
    return { ...about, device: 'failed', reason: messageOf(cause), properties: {}, cause };
  }
}

function chooseByName(answers: readonly Answer[], requested: string): SelectedPlatform {
  const { cause, ...candidate } = answers.find(({ name }) => name === requested)!;
  const { platform, device, reason, properties } = candidate;
  if (device === 'absent' || device === 'failed') throw new PlatformUnavailableError(candidate, cause);
  return { platform, device, reason: `asked for by name; ${reason}`, properties };
}

function chooseAutomatically(answers: readonly Answer[]): SelectedPlatform {
  const withDevice = answers.filter(({ device, fallback }) => device === 'device' && !fallback);
  if (withDevice.length > 1) throw new PlatformConflictError(withDevice);
  const [only] = withDevice;
  if (only !== undefined) {
    const { platform, reason, properties } = only;
    return { platform, device: 'device', reason: `the only platform with a device; ${reason}`, properties };
  }
  const fallbacks = answers.filter(({ fallback, device }) => fallback && (device === 'device' || device === 'emulated'));
  if (fallbacks.length > 1) throw new PlatformConflictError(fallbacks);
  const [fallback] = fallbacks;
  if (fallback === undefined) throw new NoPlatformError(answers);
  const others = answers.filter((answer) => answer !== fallback).map((answer) => `${answer.name} ${describePlatform(answer)}`);
  const reason =
    others.length === 0
      ? 'the fallback, and the only platform loaded'
      : `the fallback, since no other platform has a device (${others.join('; ')})`;
  return { platform: fallback.platform, device: fallback.device as 'device' | 'emulated', reason, properties: fallback.properties };
}
