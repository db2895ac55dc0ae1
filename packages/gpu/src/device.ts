import { type Device, devices, loadGgml } from '@graft/ggml';
import { deviceOf, parseGpuOptions } from './options.ts';
import { type GpuName, shortage } from './platforms.ts';

/**
 * Loads ggml, and the GPU that the options name or the first one with memory; without a platform of GPUs the CPU.
 * @throws GgmlPlatformError, GgmlLibraryError; GpuOptionError
 */
export function openDevice(gpu: GpuName | null, platformOptions: Readonly<Record<string, unknown>> = {}): Device {
  loadGgml(gpu);
  if (gpu === null) return devices().find(({ type }) => type === 'CPU')!;
  const found = devices()
    .filter(({ name }) => name.toLowerCase().startsWith(gpu))
    .map((device) => ({ device, description: device.description, fault: shortage(device) }));
  return deviceOf(parseGpuOptions(platformOptions), found).device;
}
