import { Backends } from '@graft/engine';
import { loadPlugins, selectPlatform } from '@graft/registry';
import { expect, test } from 'vitest';
import { OrtBackend } from './ort-backend.ts';
import plugin from './plugin.ts';

test('the plugin brings the platform that is taken when there is no other, with its backend and weight forms', async () => {
  const loaded = await loadPlugins({ plugins: [plugin], graftVersion: '0.1.0', from: import.meta.dirname });
  const selected = await selectPlatform(loaded.platforms);
  expect([selected.platform.name, selected.device, selected.platform.modes]).toEqual(['cpu', 'device', ['full']]);
  const container = loaded.createEngineContainer({ platform: 'cpu' });
  const [backend] = await container.get(Backends);
  expect(await container.create(await backend!.load())).toBeInstanceOf(OrtBackend);
  expect(backend!.weightPolicy({ name: 'lm_head.weight', shape: [64, 32], sources: ['Q4_1'], stack: null })).toBe('int4b32o');
});
