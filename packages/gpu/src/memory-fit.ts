import type { Device } from '@graft/ggml';
import { Buffer, type Module, Parameter, partBytes, RuntimeInput, type StaticOptions, type WeightStorage } from '@graft/graph';
import type { CacheType } from './caches.ts';
import { GpuMemoryError } from './errors.ts';

/** Kept free for activations, which depend on the buckets, and for the driver. */
const leastForGraphs = 64 * 2 ** 20;

/** Before anything is copied: whether the weights and caches of a model fit into the free memory of a device. @throws GpuMemoryError */
export function expectRoom(
  model: Module,
  device: Pick<Device, 'name' | 'description' | 'memory'>,
  cacheType: CacheType,
  options: Pick<StaticOptions, 'bindRuntimeInput' | 'kvSlots'>,
): void {
  const parts = new Map<object, number>(); // tied weights share their parts
  let cacheBytes = 0;
  for (const [path, module] of model.namedModules())
    for (const [name, field] of Object.entries(module)) {
      if (field instanceof Parameter && field.storage !== null) addBytes(field.storage, parts);
      if (field instanceof Buffer) addBytes(field.storage, parts);
      if (!(field instanceof RuntimeInput)) continue;
      const binding = options.bindRuntimeInput(path === '' ? name : `${path}.${name}`, field.kind);
      if (binding.kind !== 'cache') continue;
      const width = field.dims.reduce<number>((product, dim) => (typeof dim === 'number' ? product * dim : product), 1);
      cacheBytes += width * binding.rows * options.kvSlots * (cacheType === 'F16' ? 2 : 4);
    }
  const weightBytes = [...parts.values()].reduce((sum, bytes) => sum + bytes, 0);
  const { memory } = device;
  if (weightBytes + cacheBytes + leastForGraphs <= memory.free) return;
  throw new GpuMemoryError({ weightBytes, cacheBytes, ...memory }, `${device.name} (${device.description})`);
}

function addBytes({ parts }: WeightStorage, known: Map<object, number>): void {
  for (const part of Object.values(parts)) known.set(part, partBytes(part));
}
