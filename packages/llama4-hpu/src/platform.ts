import { existsSync, readdirSync, realpathSync } from 'node:fs';
import { basename, join } from 'node:path';
import type { Detection, Platform, ServedSizes } from '@graft/registry';
import { hpuBuckets } from './buckets.ts';
import { parseHpuPlatformOptions } from './platform-options.ts';

const driver = 'habanalabs';
const emulation = 'emulated by ONNX Runtime on the CPU, with the same modes, static buckets and recipe cache; no Gaudi figure is claimed';

/** See `HpuPlatform`. */
export type HpuMode = 'compile' | 'lazy' | 'eager';

/**
 * Intel Gaudi. Its modes, the default first:
 *  - `compile`: compiles each kind of layer once for each bucket. Everything is on: the overrides make layers alike, so there are fewer kinds.
 *  - `lazy`: one graph for a whole step of a bucket. Layers may differ, so the patches `unifyLayers` and `unifyFeedForward` are off. Buckets, recipes and
 *    warm-up stay.
 *  - `eager`: runs op by op at any shape. Buckets, padding, recipes, warm-up and the attention scale over padded positions are off too.
 * In every mode the first residual is zeros (a method of the override, not a patch), and chunked layers are marked for the runner.
 */
export class HpuPlatform implements Platform {
  readonly name = 'hpu';
  readonly modes: readonly HpuMode[] = ['compile', 'lazy', 'eager'];
  private readonly root: string;
  private readonly emulate: boolean;

  /**
   * @param options `root`: the folder that holds `dev` and `sys`. `emulate` ignores a Gaudi of this machine, and emulates one.
   */
  constructor({ root = '/', emulate = false }: { root?: string; emulate?: boolean } = {}) {
    this.root = root;
    this.emulate = emulate;
  }

  /**
   * Looks for a Gaudi: a node `/dev/accel/accel<N>` of the kernel's driver `habanalabs`. Without one the device is `emulated`, which serves only those who
   * ask for `hpu` by name. With one it is `absent`: Graft cannot run on it, and its owner should not get a CPU in its place.
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

  /** @throws HpuOptionError for an unknown option, a wrong value, or a range that is empty for the sizes served */
  checkOptions(options: Readonly<Record<string, unknown>>, served: ServedSizes): void {
    hpuBuckets(parseHpuPlatformOptions(options), served);
  }
}

/** The device nodes of Gaudi's driver, by sysfs. Other accelerators share the folder. */
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
