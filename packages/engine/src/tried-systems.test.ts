import { expect, test } from 'vitest';
import { untriedSystem } from './tried-systems.ts';

test('only a system that was never tried is spoken of', () => {
  expect(untriedSystem({ platform: 'linux', arch: 'x64' })).toBe(null);
  expect(untriedSystem({ platform: 'darwin', arch: 'arm64' })).toContain('never tried on darwin-arm64');
});
