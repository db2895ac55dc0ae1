import { GgmlLibraryError, type ProbedDevice } from '@graft/ggml';
import { selectPlatform } from '@graft/registry';
import { expect, test } from 'vitest';
import { type GpuName, GpuPlatform } from './platforms.ts';

const gpu: ProbedDevice = {
  name: 'Vulkan0',
  description: 'NVIDIA H200',
  type: 'GPU',
  memory: { free: 138 * 2 ** 30, total: 139 * 2 ** 30 },
  driver: 'NVIDIA, 580.82',
  fault: null,
};
const served = { maxSequences: 8, prefillTokens: 256, maxModelLength: 2048 };
const platform = (name: GpuName, ...found: ProbedDevice[]) => new GpuPlatform(name, { probe: async () => found });
const refused = async (given: GpuPlatform) => {
  const error = await selectPlatform([given], given.name).catch((cause: unknown) => cause);
  return error as { code: string; what: string; fix: string };
};

test('a GPU is named with its memory and driver, and its properties list all devices', async () => {
  const detected = await platform('vulkan', gpu).detect();
  expect(detected).toMatchObject({
    device: 'device',
    reason: 'Vulkan0 (NVIDIA H200, 138.0 GiB of 139.0 GiB free, driver NVIDIA, 580.82)',
    properties: { devices: [gpu] },
  });
});

test('cuda is preferred where vulkan sees the GPU too', async () => {
  const cuda = platform('cuda', { ...gpu, name: 'CUDA0' });
  const selected = await selectPlatform([platform('vulkan', gpu), cuda]);
  expect([selected.platform.name, selected.reason]).toEqual(['cuda', expect.stringMatching(/^preferred over "vulkan"; CUDA0/)]);
});

test('Vulkan on a CPU is emulated: it serves by name alone', async () => {
  const lavapipe = platform('vulkan', { ...gpu, description: 'llvmpipe (LLVM 15.0.6, 256 bits)' });
  const cpu = { name: 'cpu', fallback: true, modes: ['full'], detect: () => 'device' as const };
  expect((await selectPlatform([lavapipe, cpu])).platform.name).toBe('cpu');
  expect(await selectPlatform([lavapipe, cpu], 'vulkan')).toMatchObject({
    device: 'emulated',
    reason: expect.stringContaining('for tests'),
  });
});

test.each<[string, GpuPlatform, RegExp, RegExp]>([
  ['no GPU', platform('vulkan'), /finds no GPU/, /^install the GPU's Vulkan driver/],
  ['no GPU for cuda', platform('cuda'), /finds no GPU/, /^install NVIDIA's driver/],
  [
    'no free memory',
    platform('vulkan', { ...gpu, memory: { free: 2 ** 20, total: 4 * 2 ** 30 } }),
    /1 MiB of 4\.0 GiB are free/,
    /^end other programs/,
  ],
  [
    'an old driver',
    platform('cuda', { ...gpu, fault: 'ended with SIGABRT. It says:\nthe provided PTX was compiled with an unsupported toolchain.' }),
    /unsupported toolchain/,
    /^update NVIDIA's driver to 590/,
  ],
  ['a faulty driver', platform('vulkan', { ...gpu, fault: 'It computes 0, 0, 0, 0.' }), /cannot compute/, /^update the driver/],
])('%s is an error with what to do', async (_, given, what, fix) => {
  const error = await refused(given);
  expect([error.code, error.what, error.fix]).toEqual([
    'GRAFT_PLATFORM_UNAVAILABLE',
    expect.stringMatching(what),
    expect.stringMatching(fix),
  ]);
});

test('a library that is missing is an error with the command that installs it', async () => {
  const missing = new GgmlLibraryError({ what: 'ggml for cuda needs libcudart.so.13.', fix: 'install the runtime of CUDA 13.' });
  const error = await refused(new GpuPlatform('cuda', { probe: () => Promise.reject(missing) }));
  expect(error.what).toContain('is absent: ggml for cuda needs libcudart.so.13.');
  expect(error.fix).toMatch(/^install the runtime of CUDA 13, or ask for another platform/);
});

test('without its npm package a platform is absent at once, and names the command', async () => {
  for (const name of ['cuda', 'metal'] as const) expect((await new GpuPlatform(name).detect()).device).toBe('absent');
  expect((await refused(new GpuPlatform('cuda'))).fix).toMatch(/^npm install @node-llama-cpp\/linux-x64-cuda@/);
});

test('the options name a device by its number; a wrong one lists those that compute', async () => {
  const broken = { ...gpu, description: 'Old GPU', fault: 'It has no memory.' };
  const two = platform('vulkan', broken, gpu);
  const detected = await selectPlatform([two]);
  const check = (options: Record<string, unknown>) => two.checkOptions(options, served, detected);
  check({});
  check({ device: 1 });
  const error = (options: Record<string, unknown>) => expect(() => check(options));
  error({ device: 0 }).toThrow(/Old GPU\) cannot compute[\s\S]*choose 1 \(NVIDIA H200\)/);
  error({ device: 2 }).toThrow('Device 2 is unknown; 2 are here.');
  error({ device: '1' }).toThrow('platformOptions.device');
  error({ devise: 1 }).toThrow(/devise[\s\S]*"device"/);
});
