import {
  coreModels,
  type IntermediateTensors,
  Linear,
  type Llama4Config,
  Llama4ForCausalLM,
  Llama4Model,
  llama4,
  type ModelContext,
  type ModelOutput,
  type OpenFile,
  openCheckpoint,
  openFileBytes,
} from '@graft/core-model';
import { Module, type Tensor } from '@graft/graph';
import { definePlugin, type LazyModel, loadPlugins, type Plugin, type ReliesOn } from '@graft/registry';
import { describe, expect, test } from 'vitest';
import { EngineConfig, graftVersion } from './config.ts';
import { createServices } from './default-services.ts';
import { failureOf, tinyConfig } from './engine.fixture.ts';
import interpreter from './interpreter-plugin.fixture.ts';
import { loadModel } from './load-model.ts';
import { readSource } from './model-source.ts';

/** Upstream after it moved: `model` is `decoder`, `computeLogits` is `logitsOf`. */
class Renamed extends Module {
  readonly decoder: Llama4Model;
  readonly output: Linear;

  constructor(context: ModelContext<Llama4Config>) {
    super();
    this.decoder = new Llama4Model(context);
    this.output = new Linear(context.config.hiddenSize, context.config.vocabSize);
  }

  forward(inputIds: Tensor, positions: Tensor, intermediateTensors: IntermediateTensors | null, inputsEmbeds: Tensor | null): ModelOutput {
    return this.decoder.forward(inputIds, positions, intermediateTensors, inputsEmbeds);
  }

  logitsOf(hiddenStates: Tensor): Tensor {
    return this.output.forward(hiddenStates);
  }

  setAuxHiddenStateLayers(layers: readonly number[]): void {
    this.decoder.auxHiddenStateLayers = layers;
  }
}

const renamedModels = definePlugin({
  name: 'core-model',
  models: [{ architecture: 'Llama4ForCausalLM', model: async () => Renamed, family: async () => llama4 }],
});

const reliesOn: ReliesOn = {
  attributes: ['model.layers.*.self_attn.attn'],
  methods: ['computeLogits(hiddenStates)'],
  parameters: ['model.layers.*.self_attn.qkv_proj.weight', 'model.norm.weight'],
};

function vendor(model: LazyModel): Plugin {
  return definePlugin({
    name: 'vendor',
    after: ['core-model'],
    overrides: [{ of: 'Llama4ForCausalLM', platform: 'interpreter', model, reliesOn }],
  });
}

/** Loads dense-tiny through the whole path; `bytes` counts what is read of its files after their headers. */
async function load(upstream: Plugin, model: LazyModel) {
  const counted = { bytes: 0 };
  const openFile: OpenFile = (path) => {
    const file = openFileBytes(path);
    const read = (offset: number, length: number): Uint8Array => {
      counted.bytes += length;
      return file.read(offset, length);
    };
    return { path, byteLength: file.byteLength, read, close: () => file.close() };
  };
  const { cacheDirectory: _, ...config } = EngineConfig.parse(tinyConfig());
  const plugins = await loadPlugins({ plugins: [upstream, interpreter, vendor(model)], specifiers: [], graftVersion });
  const platform = await plugins.selectPlatform('interpreter');
  const checkpoint = await openCheckpoint(config.model, { openFile });
  counted.bytes = 0;
  const source = await readSource(plugins.registry, checkpoint, undefined);
  const loading = loadModel({ plugins, container: createServices(plugins, platform, config), platform, source, config });
  const loaded = loading.finally(() => checkpoint[Symbol.dispose]());
  return { loaded, counted };
}

describe('the drift contract of an override is held at load', () => {
  test('a renamed attribute, method and parameters are each named, and no byte of a weight was read', async () => {
    const { loaded, counted } = await load(renamedModels, async () => class Vendor extends Renamed {});
    const error = await failureOf(loaded);
    expect(error.code).toBe('GRAFT_CONTRACT_BROKEN');
    for (const words of [
      'attribute "model.layers.*.self_attn.attn": Vendor has no "model"; now there is',
      'method "computeLogits(hiddenStates)" of Renamed',
      'parameter "model.layers.*.self_attn.qkv_proj.weight": now there is "decoder.layers.0.self_attn.qkv_proj.weight"',
      'parameter "model.norm.weight": now there is "decoder.norm.weight"',
    ]) {
      expect(error.message).toContain(words);
    }
    expect(counted.bytes).toBe(0);
  });

  test('with upstream as it is, the contract holds and the weights are read', async () => {
    const { loaded, counted } = await load(coreModels, async () => class Vendor extends Llama4ForCausalLM {});
    const { resolution, runner } = await loaded;
    runner[Symbol.dispose]();
    expect(resolution.candidates.find(({ plugin }) => plugin === 'vendor')).toMatchObject({ contract: 'holds', contractNotes: [] });
    expect(counted.bytes).toBeGreaterThan(10_000);
  });
});
