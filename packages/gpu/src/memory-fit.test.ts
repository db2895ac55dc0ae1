import { Module, memoryStorage, Parameter, RuntimeInput } from '@graft/graph';
import { expect, test } from 'vitest';
import { expectRoom } from './memory-fit.ts';

class Layer extends Module {
  readonly weight = new Parameter([1024, 1024]);
  readonly tied = new Parameter([1024, 1024]);
  readonly keyCache = new RuntimeInput('kvCache.key', 'float32', ['batch', 8, 'rows', 64]);
  readonly queryStart = new RuntimeInput('queryStart', 'int32', ['batch']);

  constructor() {
    super();
    const storage = memoryStorage('float16', [1024, 1024], { data: new Uint16Array(2 ** 20) });
    for (const each of [this.weight, this.tied]) each.setStorage(storage);
  }
}

const MiB = 2 ** 20;
const device = (free: number) => ({ name: 'Vulkan0', description: 'a GPU', memory: { free: free * MiB, total: 512 * MiB } });
const options = {
  kvSlots: 4,
  bindRuntimeInput: (path: string, kind: string) =>
    path === 'keyCache' && kind.startsWith('kvCache') ? ({ kind: 'cache', rows: 4096 } as const) : ({ kind: 'input', name: kind } as const),
};

// Weights: 1024 * 1024 float16, once. The cache: 4 slots of 4096 rows of 8 * 64 elements.
test('a model that fits is accepted; tied weights count once', () => {
  expectRoom(new Layer(), device(2 + 16 + 64), 'F16', options);
});

test('a model that does not fit is refused with what it needs and what is free', () => {
  expect(() => expectRoom(new Layer(), device(81), 'F16', options)).toThrow(
    /needs 18 MiB \(weights 2 MiB, caches 16 MiB\) and memory for its activations; 81 MiB of 0\.5 GiB are free/,
  );
  expect(() => expectRoom(new Layer(), device(82), 'F32', options)).toThrow('caches 32 MiB');
});
