import { Backend, BucketPolicy, Lowerings, ModelRunner, RunnerParts, StaticBackend } from '@graft/engine';
import { InterpreterBackend, type Module } from '@graft/graph';
import { definePlugin, type OverrideDeclaration, type Patches, type PluginHook } from '@graft/registry';
import { hpuBucketPolicy } from './buckets.ts';
import { HpuPlatform } from './platform.ts';

// At the top level: elsewhere, TypeScript 6.0.3 may not rewrite the `.ts` of the path in the built file.
const llama4 = () => import('./models/llama4.ts');
const runnerPatches = () => import('./runner-patches.ts');
const runner = () => import('./runner.ts');
const device = () => import('@graft/static-device');

// The members that the hooks patch or read. `branchFreeAttentionForward` is a changed copy of the copied method.
const patched = {
  version: '^0.1.0',
  attributes: ['qSize', 'kvSize', 'nope', 'attnTemperatureTuning', 'qkv_proj', 'o_proj', 'rotary_emb', 'qk_norm', 'attn'].map(
    (name) => `Llama4Attention.${name}`,
  ),
  methods: [
    'Llama4Attention.forward(positions, hiddenStates)',
    'Llama4Attention.getAttnScale(positions)',
    'ChunkedLocalAttention.getKvCacheSpec()',
  ],
  copied: { 'Llama4Attention.forward': '2394f42d08272ed8' },
};

async function setChunkedAttention(model: Module, context: unknown, patches: Patches): Promise<void> {
  (await runnerPatches()).setChunkedAttention(model, context, patches);
}

async function patchAttentionScale(model: Module, context: unknown, patches: Patches): Promise<void> {
  (await runnerPatches()).patchAttentionScale(model, context, patches);
}

// The patches of vllm_gaudi's runner (`apply_model_specific_patches`), in its order: after the init patches of the classes and before their post-load
// patches. Hooks of plugins run last in a phase. A model with images contains a Llama4ForCausalLM, so both architectures are covered.
const runnerHooks = (platform: string, padded: readonly string[]): PluginHook[] => [
  {
    of: 'Llama4ForCausalLM',
    platform,
    phase: 'init',
    reason: 'marks chunked-local attention for the runner',
    run: setChunkedAttention,
  },
  {
    of: 'Llama4ForCausalLM',
    platform,
    phase: 'init',
    modes: padded,
    reason: 'computes the temperature of attention from padded positions',
    run: patchAttentionScale,
  },
];

const overrides = (platform: string): OverrideDeclaration[] => [
  { of: 'Llama4ForCausalLM', platform, model: () => llama4().then((m) => m.HpuLlama4ForCausalLM), reliesOn: patched },
  {
    of: 'Llama4ForConditionalGeneration',
    platform,
    model: () => llama4().then((m) => m.HpuLlama4ForConditionalGeneration),
    reliesOn: patched,
  },
  {
    of: 'Llama4Model',
    platform,
    model: () => llama4().then((m) => m.HpuLlama4Model),
    // The methods that give and take the first residual.
    reliesOn: {
      version: '^0.1.0',
      methods: [
        'Llama4Model.forward(inputIds, positions, intermediateTensors, inputsEmbeds)',
        'Llama4DecoderLayer.forward(positions, hiddenStates, residual)',
      ],
    },
  },
];

/**
 * The overrides and hooks for Llama 4 on platforms with a mode `compile`: `definePlugin({ name, ...llama4On(['cuda']) })`.
 * @param padded the modes that pad steps
 */
export function llama4On(platforms: readonly string[], padded: readonly string[] = ['compile']) {
  const hooks = platforms.flatMap((platform) => runnerHooks(platform, padded));
  return { after: ['core-model'], hooks, overrides: platforms.flatMap(overrides) };
}

/** Llama 4 on Intel Gaudi: the platform, and overrides of both architectures and of the decoder. Each class says which guard it removes. */
export default definePlugin({
  name: 'llama4-hpu',
  graft: '^0.1.0',
  platforms: [new HpuPlatform()],
  ...llama4On(['hpu'], ['compile', 'lazy']), // eager mode pads nothing
  // Weights stay float32, the default, because the emulated device has only float32.
  bind(bind) {
    for (const mode of ['compile', 'lazy'] as const) {
      bind(StaticBackend, { modes: [mode] }).toDynamicValue(async (services) => {
        const { EmulatedBackend, packageCode } = await device();
        const lowerings = await services.get(Lowerings);
        return new EmulatedBackend({ mode, codeIdentity: packageCode(import.meta.url), platform: 'hpu', lowerings });
      });
    }
    const withBuckets = { modes: ['compile', 'lazy'] };
    bind(BucketPolicy, withBuckets).toDynamicValue(async (services) => hpuBucketPolicy(await services.get(RunnerParts)));
    bind(ModelRunner, withBuckets).to(() => runner().then((m) => m.HpuModelRunner));
    // In mode `eager` the interpreter runs op by op at any shape, and compiles nothing.
    bind(ModelRunner, { modes: ['eager'] }).to(() => runner().then((m) => m.EagerRunner));
    bind(Backend, { modes: ['eager'] }).to(InterpreterBackend);
  },
});
