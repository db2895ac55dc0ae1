import { messageOf } from '@graft/common';
import { type DeviceState, describePlatform, type PlatformCandidate } from './platform-candidate.ts';
import { NoPlatformError, PlatformConflictError, PlatformUnavailableError, UnknownPlatformError } from './platform-errors.ts';

export type { DeviceState, PlatformCandidate };

export interface Detection {
  readonly device: DeviceState;
  /** Why, in one sentence: which file, driver or count decided. */
  readonly reason?: string;
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

export interface SelectedPlatform {
  readonly platform: Platform;
  readonly device: 'device' | 'emulated';
  /** Why this platform, and what its detector said. */
  readonly reason: string;
  /** What every platform answered, in plugin order. */
  readonly considered: readonly PlatformCandidate[];
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
  const answers = await Promise.all(platforms.map(askPlatform));
  const considered = answers.map(({ candidate }) => candidate);
  const chosen = requested === undefined ? chooseAutomatically(answers) : chooseByName(answers, requested);
  return { platform: chosen.platform, device: chosen.device, reason: chosen.reason, considered };
}

interface Answer {
  platform: Platform;
  candidate: PlatformCandidate;
  cause?: unknown;
}

type Choice = Pick<SelectedPlatform, 'platform' | 'device' | 'reason'>;

async function askPlatform(platform: Platform): Promise<Answer> {
  const about = { name: platform.name, fallback: platform.fallback ?? false };
  try {
    const answer = await platform.detect();
    const { device, reason } = typeof answer === 'string' ? { device: answer, reason: undefined } : answer;
    if (device !== 'device' && device !== 'emulated' && device !== 'absent') {
      throw new TypeError(`detect() answered ${JSON.stringify(device)}; it may answer "device", "emulated" or "absent"`);
    }
    return { platform, candidate: { ...about, device, reason: reason ?? `detect() answered "${device}"` } };
  } catch (cause) {
    return { platform, candidate: { ...about, device: 'failed', reason: messageOf(cause) }, cause };
  }
}

function chooseByName(answers: readonly Answer[], requested: string): Choice {
  const answer = answers.find(({ platform }) => platform.name === requested)!;
  const { device, reason } = answer.candidate;
  if (device === 'absent' || device === 'failed') throw new PlatformUnavailableError(answer.candidate, answer.cause);
  return { platform: answer.platform, device, reason: `asked for by name; ${reason}` };
}

function chooseAutomatically(answers: readonly Answer[]): Choice {
  const withDevice = answers.filter(({ candidate }) => candidate.device === 'device' && !candidate.fallback);
  if (withDevice.length > 1) throw new PlatformConflictError(withDevice.map(({ candidate }) => candidate));
  const [only] = withDevice;
  if (only !== undefined)
    return { platform: only.platform, device: 'device', reason: `the only platform with a device; ${only.candidate.reason}` };
  const fallbacks = answers.filter(
    ({ candidate }) => candidate.fallback && (candidate.device === 'device' || candidate.device === 'emulated'),
  );
  if (fallbacks.length > 1) throw new PlatformConflictError(fallbacks.map(({ candidate }) => candidate));
  const [fallback] = fallbacks;
  if (fallback === undefined) throw new NoPlatformError(answers.map(({ candidate }) => candidate));
  const others = answers.filter((answer) => answer !== fallback).map(({ candidate }) => `${candidate.name} ${describePlatform(candidate)}`);
  const why =
    others.length === 0
      ? 'the fallback, and the only platform loaded'
      : `the fallback, since no other platform has a device (${others.join('; ')})`;
  return { platform: fallback.platform, device: fallback.candidate.device as 'device' | 'emulated', reason: why };
}
