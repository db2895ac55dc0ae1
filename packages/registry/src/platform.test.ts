import { expect, test } from 'vitest';
import { type Detection, type Platform, selectPlatform } from './platform.ts';

const code = (name: string, more: object = {}) => expect.objectContaining({ code: name, ...more });

function platform(name: string, answer: Detection['device'] | Detection | Error, fallback = false): Platform & { calls: number } {
  return {
    name,
    fallback,
    modes: ['compile'],
    calls: 0,
    detect() {
      this.calls += 1;
      if (answer instanceof Error) throw answer;
      return answer;
    },
  };
}

test('the one platform that has a device is chosen, and each detector ran exactly once', async () => {
  const [cpu, hpu, tpu] = [
    platform('cpu', 'device', true),
    platform('hpu', { device: 'device', reason: '/dev/accel0' }),
    platform('tpu', 'absent'),
  ];
  const selected = await selectPlatform([cpu, hpu, tpu]);
  expect(selected).toMatchObject({ platform: hpu, device: 'device', reason: 'the only platform with a device; /dev/accel0' });
  expect([cpu.calls, hpu.calls, tpu.calls]).toEqual([1, 1, 1]);
});

test('without a device the fallback is chosen, and says what the others answered', async () => {
  const selected = await selectPlatform([
    platform('hpu', { device: 'absent', reason: 'no /dev/accel' }),
    platform('npu', new Error('driver 3 is too old')),
    platform('cpu', 'device', true),
  ]);
  expect(selected.platform.name).toBe('cpu');
  expect(selected.reason).toContain('hpu is absent: no /dev/accel; npu could not be detected: driver 3 is too old');
});

test('an emulated platform is never chosen by itself, and is accepted by name', async () => {
  const platforms = [platform('cpu', 'device', true), platform('hpu', { device: 'emulated', reason: 'ONNX Runtime on the CPU' })];
  expect((await selectPlatform(platforms)).platform.name).toBe('cpu');
  expect(await selectPlatform(platforms, 'hpu')).toMatchObject({
    device: 'emulated',
    reason: 'asked for by name; ONNX Runtime on the CPU',
  });
});

test('two devices are an error that says how to choose', async () => {
  const both = selectPlatform([platform('hpu', 'device'), platform('tpu', 'device'), platform('cpu', 'device', true)]);
  await expect(both).rejects.toThrow(code('GRAFT_PLATFORM_CONFLICT', { fix: expect.stringContaining('--platform hpu') }));
});

test('of two platforms with a device the preferred one is chosen; two that are preferred over each other are an error', async () => {
  const vulkan = platform('vulkan', { device: 'device', reason: 'one GPU' });
  const cuda = Object.assign(platform('cuda', { device: 'device', reason: 'the same GPU' }), { preferredOver: ['vulkan'] });
  expect(await selectPlatform([vulkan, cuda])).toMatchObject({ platform: cuda, reason: 'preferred over "vulkan"; the same GPU' });
  expect((await selectPlatform([vulkan, platform('cpu', 'device', true)])).platform).toBe(vulkan);
  const mutual = Object.assign(platform('vulkan', 'device'), { preferredOver: ['cuda'] });
  await expect(selectPlatform([mutual, cuda])).rejects.toThrow(code('GRAFT_PLATFORM_CONFLICT'));
});

test('an absent platform says how its user makes it available, and no other detector runs', async () => {
  const cpu = platform('cpu', 'device', true);
  const gpu = platform('gpu', { device: 'absent', reason: 'no driver', fix: 'install the driver 580' });
  await expect(selectPlatform([cpu, gpu], 'gpu')).rejects.toThrow(
    code('GRAFT_PLATFORM_UNAVAILABLE', { fix: expect.stringMatching(/^install the driver 580, or ask for another platform/) }),
  );
  expect([cpu.calls, gpu.calls]).toEqual([0, 1]);
});

test('a platform asked for by name that is absent, or whose detector throws, is an error: no other platform is taken', async () => {
  const broken = new Error('permission denied on /dev/accel0');
  const platforms = [
    platform('cpu', 'device', true),
    platform('hpu', { device: 'absent', reason: 'no /dev/accel' }),
    platform('npu', broken),
  ];
  await expect(selectPlatform(platforms, 'hpu')).rejects.toThrow(
    code('GRAFT_PLATFORM_UNAVAILABLE', { what: expect.stringContaining('no /dev/accel') }),
  );
  await expect(selectPlatform(platforms, 'npu')).rejects.toThrow(code('GRAFT_PLATFORM_UNAVAILABLE', { cause: broken }));
});

test('an unknown platform names the three nearest and the loaded plugins, and asks no detector', async () => {
  const platforms = ['cpu', 'hpu', 'tpu', 'metal'].map((name) => platform(name, 'device'));
  await expect(selectPlatform(platforms, 'cpuu', ['core-model', 'cpu'])).rejects.toThrow(
    code('GRAFT_UNKNOWN_PLATFORM', {
      // Edit distances from "cpuu": 1, 2, 2; metal is further.
      fix: expect.stringContaining('"cpu", "hpu" or "tpu"'),
      where: expect.stringContaining('plugins loaded: "core-model" and "cpu"'),
    }),
  );
  expect(platforms.map(({ calls }) => calls)).toEqual([0, 0, 0, 0]);
});

test('no device and no fallback is an error that lists every answer', async () => {
  await expect(selectPlatform([platform('hpu', { device: 'emulated', reason: 'no card' })])).rejects.toThrow(
    code('GRAFT_NO_PLATFORM', { where: '"hpu" is emulated: no card' }),
  );
  await expect(selectPlatform([])).rejects.toThrow(code('GRAFT_NO_PLATFORM'));
});

test('a detector that answers something else is an error that lists the answers', async () => {
  await expect(selectPlatform([platform('hpu', 'yes' as Detection['device'])], 'hpu')).rejects.toThrow(
    code('GRAFT_PLATFORM_ANSWER', { fix: expect.stringContaining('answer "device", "emulated" or "absent"') }),
  );
});
