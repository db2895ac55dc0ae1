import { GraftError } from '@graft/common';
import { type Accelerator, GgmlLibraryError, GgmlPlatformError, type ProbedDevice, probeDevices } from '@graft/ggml';
import type { Detected, Detection, Platform, ServedSizes } from '@graft/registry';
import { gibibytes } from './errors.ts';
import { deviceOf, parseGpuOptions } from './options.ts';

export type GpuName = NonNullable<Accelerator>;

interface GpuFacts {
  readonly preferredOver?: readonly string[];
  /** What makes a GPU visible where none is found. */
  readonly driver: string;
}

const facts: Record<GpuName, GpuFacts> = {
  cuda: { preferredOver: ['vulkan'], driver: "install NVIDIA's driver (580 or newer) and check it with nvidia-smi" },
  vulkan: {
    driver:
      "install the GPU's Vulkan driver (AMD, Intel: apt-get install mesa-vulkan-drivers; NVIDIA: its own driver) and check it with vulkaninfo, or for tests " +
      'on the CPU set GGML_VK_VISIBLE_DEVICES=0',
  },
  metal: { driver: 'use a Mac with a GPU that Metal serves' },
};

/** Free memory below this serves no model. */
const leastBytes = 64 * 2 ** 20;
/** Drivers of Vulkan that compute on the CPU. */
const onCpu = /llvmpipe|lavapipe|SwiftShader|softpipe/i;

/**
 * GPUs through a library of ggml: `cuda`, `vulkan` or `metal`. All layers of a kind share a captured region, and the whole model runs as one graph for each
 * bucket.
 */
export class GpuPlatform implements Platform {
  readonly name: GpuName;
  readonly modes = ['compile'] as const;
  readonly preferredOver: readonly string[];
  private readonly probe: typeof probeDevices;

  constructor(name: GpuName, { probe = probeDevices }: { probe?: typeof probeDevices } = {}) {
    this.name = name;
    this.preferredOver = facts[name].preferredOver ?? [];
    this.probe = probe;
  }

  /** Tries each GPU in a child process. Without the npm package of its library the platform is absent at once. */
  async detect(): Promise<Detection> {
    const absent = (reason: string, fix?: string): Detection => ({
      device: 'absent',
      reason: withoutStop(reason),
      ...(fix !== undefined && { fix: withoutStop(fix) }),
    });
    let devices: readonly ProbedDevice[];
    try {
      devices = await this.probe(this.name);
    } catch (error) {
      if (!GraftError.is(error) || !(error instanceof GgmlLibraryError || error instanceof GgmlPlatformError)) throw error;
      return absent(error.what, error.fix);
    }
    if (devices.length === 0) return absent(`ggml finds no GPU through ${this.name}`, facts[this.name].driver);
    const judged = devices.map((device) => ({ ...device, fault: device.fault ?? shortage(device) }));
    const working = judged.filter(({ fault }) => fault === null);
    const properties = { devices: judged };
    const [first] = judged;
    if (working.length === 0)
      return { ...absent(`${nameOf(first!)} cannot compute. ${first!.fault}`, fixOf(this.name, first!.fault!)), properties };
    const gpus = working.filter(({ description }) => !onCpu.test(description));
    if (gpus.length > 0) return { device: 'device', reason: working.map(nameOf).join('; '), properties };
    const reason = `${nameOf(working[0]!)} is Vulkan on this computer's CPU, for tests; it says nothing about the speed of a GPU`;
    return { device: 'emulated', reason, properties };
  }

  /** @throws GpuOptionError for an unknown option, a wrong value, or a device that is not here */
  checkOptions(options: Readonly<Record<string, unknown>>, _served: ServedSizes, { properties }: Detected): void {
    const parsed = parseGpuOptions(options);
    deviceOf(parsed, (properties['devices'] ?? []) as ProbedDevice[]);
  }
}

function nameOf({ name, description, memory, driver }: ProbedDevice): string {
  return `${name} (${[description, `${gibibytes(memory.free)} of ${gibibytes(memory.total)} free`, ...(driver === null ? [] : [`driver ${driver}`])].join(', ')})`;
}

/** Why a device has no room for any model; null if it has. */
export function shortage({ memory: { free, total } }: Pick<ProbedDevice, 'memory'>): string | null {
  return free < leastBytes ? `It has no memory for a model: ${gibibytes(free)} of ${gibibytes(total)} are free.` : null;
}

/** What removes a fault, by the words of the library that reports it. */
function fixOf(name: GpuName, fault: string): string {
  if (/no memory for a model|out of memory/i.test(fault)) return 'end other programs that use the GPU';
  if (name === 'cuda' && /PTX|unsupported toolchain/i.test(fault))
    return "update NVIDIA's driver to 590 or newer: the driver is too old for ggml's kernels of this GPU, which are PTX of CUDA 13.1";
  return `update the driver: ${facts[name].driver}`;
}

const withoutStop = (text: string): string => text.replace(/\.$/, '');
