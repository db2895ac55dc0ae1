import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import * as z from 'zod';
import type { ModelClass } from './model.ts';
import { ModelRegistry } from './model-registry.ts';
import { resolutionJsonSchema } from './resolution.ts';

const published = fileURLToPath(new URL('../../../docs/resolution.schema.json', import.meta.url));

test('docs/resolution.schema.json is the schema of what explain --json prints', async () => {
  // To bring the file up to date: npx vitest run --project unit packages/registry/src/resolution-schema.test.ts -u
  await expect(`${JSON.stringify(resolutionJsonSchema(), null, 2)}\n`).toMatchFileSnapshot(published);
});

/** A registry with a candidate for each reason, and a name that is passed over for each reason. */
function resolutionOfEverything() {
  class Llama {}
  class HpuLlama extends Llama {}
  const registry = new ModelRegistry();
  const factory = async () => (Base: never) => ({ Faster: class extends (Base as typeof Llama) {} }).Faster;
  registry.register('Llama', async () => Llama as ModelClass, { owner: { plugin: 'core-model', file: 'file:///core.ts' } });
  registry.retire('OldLlama', { note: 'renamed in 0.1', replacedBy: 'Llama' });
  const override = { platform: 'hpu', model: async () => HpuLlama as ModelClass };
  registry.override('Llama', { platform: 'hpu', priority: 1, factory, owner: { plugin: 'below', file: null } });
  registry.override('Llama', { ...override, priority: 2, reliesOn: { methods: ['forward'] }, owner: { plugin: 'vendor', file: null } });
  registry.override('Llama', { platform: 'hpu', priority: 3, factory, owner: { plugin: 'above', file: null } });
  registry.override('Llama', { ...override, platform: 'tpu', owner: { plugin: 'other', file: null } });
  return { registry, resolution: registry.resolve(['Lama', 'OldLlama', 'Llama'], { platform: 'hpu', mode: 'compile' }) };
}

test('a resolution validates against the published schema, before and after its classes are imported, and lists every candidate with one reason', async () => {
  const schema = z.fromJSONSchema(JSON.parse(readFileSync(published, 'utf8')));
  const { registry, resolution } = resolutionOfEverything();
  schema.parse(JSON.parse(JSON.stringify(resolution)));
  const classes = await registry.load(resolution);
  const record = JSON.parse(JSON.stringify(classes.resolution)) as { candidates: { plugin: string; reason: string }[] };
  schema.parse(record);
  expect(record.candidates.map(({ plugin, reason }) => [plugin, reason])).toEqual([
    ['core-model', 'base'],
    ['below', 'outranked'],
    ['vendor', 'base'],
    ['above', 'selected'],
    ['other', 'other-platform'],
  ]);
});

test.each<[string, (record: Record<string, unknown>) => void]>([
  ['lacks a field', (record) => void delete record['candidates']],
  ['has another field', (record) => Object.assign(record, { more: 1 })],
  ['has an unknown reason', (record) => Object.assign((record['candidates'] as object[])[0]!, { reason: 'because' })],
])('the published schema refuses a record that %s', (_, damage) => {
  const schema = z.fromJSONSchema(JSON.parse(readFileSync(published, 'utf8')));
  const record = JSON.parse(JSON.stringify(resolutionOfEverything().resolution)) as Record<string, unknown>;
  damage(record);
  expect(schema.safeParse(record).success).toBe(false);
});
