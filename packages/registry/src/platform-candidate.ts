/** `device`: the real thing is here. `emulated`: it runs, on something else. `absent`: it cannot run. */
export type DeviceState = 'device' | 'emulated' | 'absent';

/** What one platform answered when it was asked. */
export interface PlatformCandidate {
  readonly name: string;
  readonly fallback: boolean;
  /** `failed`: `detect()` threw; `reason` is its message. */
  readonly device: DeviceState | 'failed';
  readonly reason: string;
}

/** `is absent: no /dev/accel`, the form used in reasons and errors. */
export function describePlatform({ device, reason }: PlatformCandidate): string {
  return device === 'failed' ? `could not be detected: ${reason}` : `is ${device}: ${reason}`;
}
