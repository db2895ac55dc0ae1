import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { selectPlatform } from '@graft/registry';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { HpuPlatform } from './platform.ts';

let root: string;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), 'graft-hpu-'));
});
afterEach(() => rmSync(root, { recursive: true }));

/** An accelerator as the kernel shows it: a device node, and a link to the driver that made it. */
function addAccelerator(name: string, driver: string): void {
  const device = join(root, `sys/devices/pci/${name}`);
  const drivers = join(root, `sys/bus/pci/drivers/${driver}`);
  for (const folder of [join(root, 'dev/accel'), join(root, 'sys/class/accel'), device, drivers]) mkdirSync(folder, { recursive: true });
  writeFileSync(join(root, 'dev/accel', name), '');
  symlinkSync(drivers, join(device, 'driver'));
  mkdirSync(join(root, 'sys/class/accel', name));
  symlinkSync(device, join(root, 'sys/class/accel', name, 'device'));
}

test('compile is the default mode, since the overrides are for its guards', () => {
  expect(new HpuPlatform().modes).toEqual(['compile', 'lazy', 'eager']);
});

const cpu = { name: 'cpu', modes: ['full'], fallback: true, detect: () => 'device' as const };
const emulation = 'emulated by ONNX Runtime on the CPU, with the same modes, static buckets and recipe cache; no Gaudi figure is claimed';

test('on a machine without a Gaudi hpu is emulated for who asks by name, and says so', async () => {
  const { platform, device, reason } = await selectPlatform([new HpuPlatform({ root }), cpu], 'hpu');
  expect([platform.name, device]).toEqual(['hpu', 'emulated']);
  expect(reason).toBe(`asked for by name; no Gaudi found here (no /dev/accel/accel* of the driver habanalabs): ${emulation}`);
});

test('an emulated hpu is never chosen without being asked for', async () => {
  const { platform, reason } = await selectPlatform([new HpuPlatform({ root }), cpu]);
  expect(platform.name).toBe('cpu');
  expect(reason).toContain('hpu is emulated: no Gaudi found here');
  await expect(selectPlatform([new HpuPlatform({ root })])).rejects.toMatchObject({ code: 'GRAFT_NO_PLATFORM' });
});

test('an accelerator of another make is no Gaudi', () => {
  addAccelerator('accel0', 'intel_vpu');
  expect(new HpuPlatform({ root }).detect()).toMatchObject({
    device: 'emulated',
    reason: expect.stringMatching(/^no Gaudi found here \(no \/dev\/accel\/accel\* of the driver habanalabs\)/),
  });
});

test('a driver that is loaded without a device is told apart from none', () => {
  mkdirSync(join(root, 'sys/module/habanalabs'), { recursive: true });
  expect(new HpuPlatform({ root }).detect().reason).toMatch(/^no Gaudi found here \(the driver habanalabs is loaded and has no device\)/);
});

test('a real Gaudi is named, and not taken for something that Graft can use', async () => {
  addAccelerator('accel1', 'habanalabs');
  addAccelerator('accel0', 'habanalabs');
  addAccelerator('accel2', 'intel_vpu');
  expect(new HpuPlatform({ root }).detect()).toEqual({
    device: 'absent',
    reason:
      '/dev/accel/accel0, /dev/accel/accel1 (driver habanalabs) are here, but Graft has no backend that runs on a real Gaudi; a plugin of yours with { ...llama4Hpu, platforms: [new HpuPlatform({ emulate: true })] } emulates one, and --platform cpu serves too',
  });
  const { platform, reason } = await selectPlatform([new HpuPlatform({ root }), cpu]);
  expect(platform.name).toBe('cpu');
  expect(reason).toContain('hpu is absent: /dev/accel/accel0');
});

test('a real Gaudi is emulated where the plugin says so', () => {
  addAccelerator('accel0', 'habanalabs');
  expect(new HpuPlatform({ root, emulate: true }).detect()).toEqual({
    device: 'emulated',
    reason: `/dev/accel/accel0 (driver habanalabs) is here and passed over: ${emulation}`,
  });
});
