import { existsSync, readdirSync, realpathSync } from 'node:fs';
import { basename, join } from 'node:path';
import type { Detection, Platform, ServedSizes } from '@graft/registry';
import { hpuBuckets } from './buckets.ts';
import { parseHpuPlatformOptions } from './platform-options.ts';

const driver = 'habanalabs';
const emulation = 'emulated by ONNX Runtime on the CPU, with the same modes, static buckets and recipe cache; no Gaudi figure is claimed';

/** What a mode of the platform turns off, and what it leaves. */
export type HpuMode = 'compile' | 'lazy' | 'eager';

/**
 * Intel Gaudi. Its modes, the default first:
 *  - `compile`: a graph for whatever its guards tell apart, so the overrides make layers alike; each kind of layer is compiled once a bucket. Nothing is off.
 *  - `lazy`: a whole step is one graph a bucket, for which layers need not be alike: the patches of `compile` are off (`unifyLayers`,
 *    `unifyFeedForward`). The same buckets, recipes and warm-up.
 *  - `eager`: each op runs as it comes, at any shape: also off are buckets, padding, recipes, warm-up and the attention scale over padded positions.
 * In every mode the first residual is zeros (a method of the override, not a patch) and chunked layers are marked for the runner.
 */
export class HpuPlatform implements Platform {
  readonly name = 'hpu';
  readonly modes: readonly HpuMode[] = ['compile', 'lazy', 'eager'];
  private readonly root: string;
  private readonly emulate: boolean;

  /**
   * @param root the folder that holds `dev` and `sys`; another one than the machine's own shows what detection would say there.
   * @param emulate whether a Gaudi that is here is passed over, and emulated.
   */
  constructor({ root = '/', emulate = false }: { root?: string; emulate?: boolean } = {}) {
    this.root = root;
    this.emulate = emulate;
  }

  /**
   * Looks for a Gaudi: a node `/dev/accel/accel<N>` that the kernel's driver `habanalabs` has made. None: `emulated`, which serves whoever asks for
   * `hpu` by name and is never chosen without. One: `absent`, since nothing here runs on it, and whoever has one should not get a CPU for it.
   */
  detect(): Detection {
    const devices = gaudiDevices(this.root);
    if (devices.length === 0) {
      const loaded = existsSync(join(this.root, 'sys/module', driver));
      const why = loaded ? `the driver ${driver} is loaded and has no device` : `no /dev/accel/accel* of the driver ${driver}`;
      return { device: 'emulated', reason: `no Gaudi found here (${why}): ${emulation}` };
    }
    const found = `${devices.join(', ')} (driver ${driver}) ${devices.length === 1 ? 'is' : 'are'} here`;
    if (this.emulate) return { device: 'emulated', reason: `${found} and passed over: ${emulation}` };
    const instead = 'a plugin of yours with { ...llama4Hpu, platforms: [new HpuPlatform({ emulate: true })] } emulates one';
    return {
      device: 'absent',
      reason: `${found}, but Graft has no backend that runs on a real Gaudi; ${instead}, and --platform cpu serves too`,
    };
  }

  /** @throws HpuOptionError for an unknown option, a value that it cannot take, or a range that is empty for what is served. */
  checkOptions(options: Readonly<Record<string, unknown>>, served: ServedSizes): void {
    hpuBuckets(parseHpuPlatformOptions(options), served);
  }
}

/** Device nodes whose driver, as sysfs has it, is that of Gaudi. Other accelerators share the folder. */
function gaudiDevices(root: string): string[] {
  return entriesOf(join(root, 'sys/class/accel'))
    .filter((entry) => /^accel\d+$/.test(entry) && existsSync(join(root, 'dev/accel', entry)))
    .filter((entry) => driverOf(join(root, 'sys/class/accel', entry)) === driver)
    .sort()
    .map((entry) => `/dev/accel/${entry}`);
}

function entriesOf(folder: string): string[] {
  return existsSync(folder) ? readdirSync(folder) : [];
}

/** The name of the driver that a device is bound to, or null. */
function driverOf(device: string): string | null {
  const link = join(device, 'device/driver');
  return existsSync(link) ? basename(realpathSync(link)) : null;
}
