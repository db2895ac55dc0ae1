import { existsSync, readdirSync, realpathSync } from 'node:fs';
import { basename, join } from 'node:path';
import type { Detection, Platform } from '@graft/registry';

const driver = 'habanalabs';
const meanwhile = '--platform cpu serves meanwhile';

/**
 * Intel Gaudi. `compile` is the default: its compiler specialises a graph for whatever its guards tell apart, and that is what the overrides are for;
 * `lazy` gathers ops until a result is needed, `eager` runs each as it comes.
 */
export class HpuPlatform implements Platform {
  readonly name = 'hpu';
  readonly modes = ['compile', 'lazy', 'eager'];
  private readonly root: string;

  /** @param root the folder that holds `dev` and `sys`; another one than the machine's own shows what detection would say there. */
  constructor({ root = '/' }: { root?: string } = {}) {
    this.root = root;
  }

  /** Looks for a Gaudi: a node `/dev/accel/accel<N>` that the kernel's driver `habanalabs` has made. Always `absent`: nothing here runs on one yet. */
  detect(): Detection {
    const devices = gaudiDevices(this.root);
    if (devices.length > 0) {
      const found = `${devices.join(', ')} (driver ${driver}) ${devices.length === 1 ? 'is' : 'are'} here`;
      return { device: 'absent', reason: `${found}, but Graft has no backend that runs on a real Gaudi; ${meanwhile}` };
    }
    const loaded = existsSync(join(this.root, 'sys/module', driver));
    const why = loaded ? `the driver ${driver} is loaded and has no device` : `no /dev/accel/accel* of the driver ${driver}`;
    return { device: 'absent', reason: `${why}, and the emulated device arrives with a later issue (issue 5); ${meanwhile}` };
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
