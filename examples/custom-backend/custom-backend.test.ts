import { readFileSync } from 'node:fs';
import { coreModels, type LanguageModel, Llama4ForCausalLM, llama4, type ModelContext, upstreamContext } from '@graft/core-model';
import { captureLanguageModel, graftVersion } from '@graft/engine';
import { CaptureCache, inlineRegions } from '@graft/graph';
import { exportGraph } from '@graft/onnx-export';
import { decodeModel } from '@graft/onnxruntime';
import { HookRunner, loadPlugins } from '@graft/registry';
import { expect, test } from 'vitest';
import { KvCache } from './src/kv-cache.ts';
import { detectRuntime, wasmPlatform } from './src/platform.ts';
import plugin from './src/plugin.ts';

test('the platform is there where its package is, and says which file it found; elsewhere it is absent and says why', () => {
  expect(wasmPlatform.detect()).toEqual({ device: 'device', reason: expect.stringMatching(/onnxruntime-web.*\.m?js$/) });
  expect(detectRuntime('onnxruntime-nowhere')).toEqual({
    device: 'absent',
    reason: 'the package onnxruntime-nowhere is not installed',
  });
});

test('without a platform asked for, it is chosen for its device', async () => {
  const { platform } = await (await load()).selectPlatform();
  expect(platform.name).toBe('wasm');
});

test('a cache gives the rows in use of neighbouring slots, and takes them back longer, beside those of other slots', () => {
  const cache = new KvCache({ path: 'k', input: 'in', output: 'out', dims: [2, 4, 1] }, 3);
  cache.put(1, 2, 2, Float32Array.of(1, 2, 3, 4, 5, 6, 7, 8));
  expect(cache.take(1, 2, 2)).toEqual({ data: Float32Array.of(1, 2, 3, 4, 5, 6, 7, 8), dims: [2, 2, 2, 1] });
  expect([...cache.take(2, 1, 3).data]).toEqual([5, 6, 0, 7, 8, 0]);
  expect([...cache.take(0, 1, 4).data]).toEqual([0, 0, 0, 0, 0, 0, 0, 0]);
  expect(cache.bytes).toBe(3 * 2 * 4 * 4);
});

test('the override leaves every rotation to the attention kernel, where upstream has two nodes a layer for it', async () => {
  const config = llama4.parseConfig(
    JSON.parse(readFileSync(new URL('../../tests/parity/cases/scout-tiny/config.json', import.meta.url), 'utf8')),
  );
  const context = upstreamContext('Llama4ForCausalLM', config, { platform: 'wasm', maxModelLength: 32 });
  const { registry, hooks } = await load();
  const classes = await registry.load<ModelContext, Llama4ForCausalLM>(registry.resolve([context.architecture], context));
  const patched = await classes.construct(context);
  await new HookRunner(classes.resolution, hooks).run('init', patched, context);
  const rotated = config.layers.filter(({ rope }) => rope).length;
  expect(rotations(new Llama4ForCausalLM(context))).toEqual({ nodes: 2 * rotated, inAttention: 0 });
  expect(rotations(patched)).toEqual({ nodes: 0, inAttention: rotated });
});

function load() {
  return loadPlugins({ plugins: [coreModels, plugin], specifiers: [], graftVersion });
}

/** Rotations in the ONNX graph of a step: as nodes, and as part of an attention. */
function rotations(model: LanguageModel): { nodes: number; inAttention: number } {
  const bindRuntimeInput = (path: string, kind: string) =>
    kind.startsWith('kvCache') ? ({ kind: 'cache', rows: 32 } as const) : ({ kind: 'input', name: `${path}.${kind}` } as const);
  const exported = exportGraph(inlineRegions(captureLanguageModel(model, new CaptureCache())), 'inputs', { bindRuntimeInput });
  const nodes = decodeModel(exported.model).graph!.node;
  const rotating = nodes.filter(({ attribute }) => attribute.some(({ name, i }) => name === 'do_rotary' && i === 1n));
  return { nodes: nodes.filter(({ opType }) => opType === 'RotaryEmbedding').length, inAttention: rotating.length };
}
