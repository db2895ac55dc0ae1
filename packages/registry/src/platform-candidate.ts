/** `device`: the real thing is here. `emulated`: it runs, on something else. `absent`: it cannot run. */
export type DeviceState = 'device' | 'emulated' | 'absent';

/** What a platform's detector said, with its defaults filled in. */
export interface Detected {
  /** `failed`: `detect()` threw; `reason` is its message. */
  readonly device: DeviceState | 'failed';
  readonly reason: string;
  /** What else it found, under the platform's own names. */
  readonly properties: Readonly<Record<string, unknown>>;
}

export interface PlatformCandidate extends Detected {
  readonly name: string;
  readonly fallback: boolean;
}

/** `is absent: no /dev/accel`, the form used in reasons and errors. */
export function describePlatform({ device, reason }: Detected): string {
  return device === 'failed' ? `could not be detected: ${reason}` : `is ${device}: ${reason}`;
}
