import { expect, test } from 'vitest';
import { definePlugin, isPlugin, type PluginDeclaration } from './plugin.ts';

const invalid = (declaration: object) => () => definePlugin(declaration as PluginDeclaration);

test('a declaration becomes a frozen plugin', () => {
  const plugin = definePlugin({ name: 'mine', overrides: [{ of: 'Llama', platform: 'cpu', model: async () => class Mine {} }] });
  expect(isPlugin(plugin)).toBe(true);
  expect(Object.isFrozen(plugin)).toBe(true);
  expect(isPlugin({ name: 'mine' })).toBe(false);
});

test('a plugin without a name is refused', () => {
  expect(invalid({})).toThrow(
    expect.objectContaining({ code: 'GRAFT_PLUGIN_INVALID', what: expect.stringMatching(/a plugin without a name .* name: /) }),
  );
});

test.each([
  ['an unknown key', { name: 'p', override: [] }, 'override'],
  [
    'an override with both a model and a factory',
    { name: 'p', overrides: [{ of: 'A', platform: 'c', model: async () => Object, factory: async () => Object }] },
    'overrides.0',
  ],
  ['an override with neither', { name: 'p', overrides: [{ of: 'A', platform: 'c' }] }, 'overrides.0'],
  ['a class in the place of a lazy reference', { name: 'p', models: [{ architecture: 'A', model: 'Llama' }] }, 'models.0.model'],
  ['a platform without modes', { name: 'p', platforms: [{ name: 'x', modes: [], detect: () => 'device' }] }, 'platforms.0'],
  [
    'a postLoad hook that does not say what a reload does',
    { name: 'p', hooks: [{ of: 'A', platform: 'c', phase: 'postLoad', run() {} }] },
    'hooks.0',
  ],
  [
    'an init hook with a reload policy',
    { name: 'p', hooks: [{ of: 'A', platform: 'c', phase: 'init', reload: 'keep', run() {} }] },
    'hooks.0',
  ],
])('%s is refused by its path', (_, declaration, path) => {
  expect(invalid(declaration)).toThrow(
    expect.objectContaining({ code: 'GRAFT_PLUGIN_INVALID', where: 'plugin "p"', what: expect.stringContaining(path) }),
  );
});

test('a platform may be a class instance, whose methods are inherited', () => {
  class Hpu {
    readonly name = 'hpu';
    readonly modes = ['lazy'];
    detect() {
      return 'absent' as const;
    }
  }
  const hpu = new Hpu();
  expect(definePlugin({ name: 'p', platforms: [hpu] }).platforms![0]).toBe(hpu);
});
