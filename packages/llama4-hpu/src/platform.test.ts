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

test('a machine without a Gaudi has no hpu, and the error says when the emulated one comes and what serves meanwhile', async () => {
  const error = await selectPlatform([new HpuPlatform({ root })], 'hpu').catch((e: unknown) => e);
  expect(error).toMatchObject({
    code: 'GRAFT_PLATFORM_UNAVAILABLE',
    what: 'Platform "hpu" was asked for and is absent: no /dev/accel/accel* of the driver habanalabs, and the emulated device arrives with a later issue (issue 5); --platform cpu serves meanwhile.',
  });
});

test('an accelerator of another make is no Gaudi', () => {
  addAccelerator('accel0', 'intel_vpu');
  expect(new HpuPlatform({ root }).detect()).toMatchObject({
    device: 'absent',
    reason: expect.stringMatching(/^no \/dev\/accel\/accel\* of the driver habanalabs/),
  });
});

test('a driver that is loaded without a device is told apart from none', () => {
  mkdirSync(join(root, 'sys/module/habanalabs'), { recursive: true });
  expect(new HpuPlatform({ root }).detect().reason).toMatch(/^the driver habanalabs is loaded and has no device,/);
});

test('a real Gaudi is named, and not taken for something that Graft can use', async () => {
  addAccelerator('accel1', 'habanalabs');
  addAccelerator('accel0', 'habanalabs');
  addAccelerator('accel2', 'intel_vpu');
  expect(new HpuPlatform({ root }).detect()).toEqual({
    device: 'absent',
    reason:
      '/dev/accel/accel0, /dev/accel/accel1 (driver habanalabs) are here, but Graft has no backend that runs on a real Gaudi; --platform cpu serves meanwhile',
  });
  const fallback = { name: 'cpu', modes: ['full'], fallback: true, detect: () => 'device' as const };
  const { platform, reason } = await selectPlatform([new HpuPlatform({ root }), fallback]);
  expect(platform.name).toBe('cpu');
  expect(reason).toContain('hpu is absent: /dev/accel/accel0');
});
