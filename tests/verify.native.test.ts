// Real weights in layers that the config makes unlike: no rotation at 7, 24, 28 and 29.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { fileURLToPath } from 'node:url';
import type { GraphsRecord, VerifyRecord } from '@graft/engine';
import { ensureDefaultModel, runCli } from '@graft/server';
import { afterAll, beforeAll, expect, test } from 'vitest';

const nope = [7, 24, 28, 29];
const layers = Array.from({ length: 30 }, (_, layer) => layer);
const overrides = JSON.stringify({ no_rope_layers: layers.map((layer) => (nope.includes(layer) ? 0 : 1)) });
const rope = layers.filter((layer) => layer > 0 && !nope.includes(layer));
const wrong = fileURLToPath(new URL('./verify-plugin.fixture.ts', import.meta.url));

let model: string;
const cache = mkdtempSync(join(tmpdir(), 'graft-verify-'));
beforeAll(async () => {
  model = await ensureDefaultModel({ environment: process.env });
}, 600_000);
afterAll(() => rmSync(cache, { recursive: true }));

async function graft<Record>(
  command: string,
  platform: string,
  plugins: string,
  ...more: string[]
): Promise<{ code: number; record: Record }> {
  const [stdin, stdout, stderr] = [new PassThrough(), new PassThrough(), new PassThrough()];
  stderr.resume();
  const subject = [
    '--model',
    model,
    '--architecture',
    'Llama4ForCausalLM',
    '--platform',
    platform,
    '--plugins',
    plugins,
    '--config-overrides',
    overrides,
  ];
  const code = await runCli([command, ...subject, '--json', ...more], { stdin, stdout, stderr });
  return { code, record: JSON.parse(String(stdout.read())) as Record };
}

/** A few tokens are enough: every layer computes each. */
const verify = (plugins: string) =>
  graft<VerifyRecord>('verify', 'hpu', plugins, '--prompt-ids', '504,3575,282,4649,314', '--max-tokens', '4', '--cache-directory', cache);

const layersOf = (kinds: GraphsRecord['kinds']): number[][] =>
  kinds.map(({ paths }) => paths.map((path) => Number(path.replace('model.layers.', ''))));

test('graft graphs and graft verify show upstream’s three kinds of layers and the overrides’ one, and verify equal ids', {
  timeout: 120_000,
}, async () => {
  const plugins = '@graft/cpu,@graft/llama4-hpu';
  const upstream = await graft<GraphsRecord>('graphs', 'cpu', plugins);
  expect(layersOf(upstream.record.kinds)).toEqual([[0], rope, nope]);
  const overridden = await graft<GraphsRecord>('graphs', 'hpu', plugins);
  expect(layersOf(overridden.record.kinds)).toEqual([layers]);

  const { code, record } = await verify('@graft/llama4-hpu');
  expect(code).toBe(0);
  expect(layersOf(record.upstream.kinds)).toEqual([[0], rope, nope]);
  const [first, ropeKind, nopeKind] = record.upstream.kinds.map(({ unlike }) => unlike?.differences.map(({ path }) => path));
  expect(first).toBeUndefined();
  expect(ropeKind).toEqual(['residual']);
  expect(nopeKind).toEqual(expect.arrayContaining(['self_attn.rotary_emb', 'self_attn.attn']));
  expect(layersOf(record.override.kinds)).toEqual([layers]);
  expect(record).toMatchObject({ verdict: 'equal', firstOver: null, upstream: { modelClass: 'Llama4ForCausalLM' } });
  expect(record.layers).toHaveLength(1 + layers.length);
  expect(record.override.modelClass).toBe('HpuLlama4ForCausalLM');
  expect(record.override.tokenIds).toEqual(record.upstream.tokenIds);
  expect(record.override.patches.map(({ operation }) => operation)).toContain('swapClass');
});

test('an override that gets one layer wrong by a thousandth is found, and the layer is named', { timeout: 120_000 }, async () => {
  const { code, record } = await verify(`@graft/llama4-hpu,${wrong}`);
  expect(code).toBe(1);
  expect(record).toMatchObject({ verdict: 'differs', firstOver: 7, override: { modelClass: 'OneLayerWrong', failure: null } });
  expect(layersOf(record.override.kinds)).toEqual([layers.filter((layer) => layer !== 7), [7]]);
});
