import { ChunkedLocalAttention, coreModels, Llama4ForCausalLM } from '@graft/core-model';
import { captureLanguageModel } from '@graft/engine';
import { CaptureCache, diffGuards, predict } from '@graft/graph';
import { describe, expect, test } from 'vitest';
import llama4Gpu from './gpu.ts';
import {
  architectures,
  build,
  buildPatched,
  captureLayers,
  contextOf,
  type Llama4,
  layersOf,
  type Published,
  patch,
} from './layer-graphs.fixture.ts';
import { isHpuLlama4Model } from './models/llama4.ts';
import { unifyAttentionTypes } from './patches/attention-types.ts';
import { applyBranchFreeAttention } from './patches/branch-free-attention.ts';
import { HpuLlama4FeedForward, unifyFeedForwardTypes } from './patches/feed-forward-types.ts';
import { chunkedAttentionLayers } from './runner-patches.ts';

const both: Published[] = ['Maverick', 'Scout'];

// What PyTorch's Dynamo compiles for 48 layers, as architecture.md has it.
const upstream = { Maverick: 4, Scout: 3 };
const oneTrickLess = { Maverick: 3, Scout: 2 };
const allTricks = { Maverick: 2, Scout: 1 };

describe.each(both)('%s of 48 layers, captured at one shape, has', (name) => {
  test(`${upstream[name]} layer graphs upstream`, () => {
    expect(captureLayers(new Llama4ForCausalLM(contextOf(name))).count).toBe(upstream[name]);
  });

  test.each(architectures)(`${allTricks[name]} by default, ${oneTrickLess[name]} with branchFree false (%s)`, async (architecture) => {
    const counts = [];
    for (const options of [{}, { branchFree: true }, { branchFree: false }]) {
      const { model } = await buildPatched(architecture, contextOf(name, {}, options));
      counts.push(captureLayers(model).count);
    }
    expect(counts).toEqual([allTricks[name], allTricks[name], oneTrickLess[name]]);
  });
});

test.each(['cuda', 'vulkan', 'metal'])('the overrides give the same counts on %s', async (platform) => {
  for (const name of both) {
    const context = { ...contextOf(name), platform };
    const { model } = await buildPatched('Llama4ForCausalLM', context, [coreModels, llama4Gpu]);
    expect(captureLayers(model).count).toBe(allTricks[name]);
  }
});

interface Tricks {
  zeros?: boolean;
  unified?: boolean;
  branchFree?: boolean;
  wrapper?: boolean;
}

/** Decoder-layer graphs with some of the tricks. */
async function graphsWith(name: Published, { zeros = false, unified = false, branchFree = false, wrapper = false }: Tricks) {
  const context = contextOf(name);
  const model = zeros ? (await build('Llama4ForCausalLM', context)).model : new Llama4ForCausalLM(context); // its hooks have not run
  patch((patches) => {
    const layers = layersOf(model);
    if (unified) unifyAttentionTypes(layers, patches);
    if (branchFree) applyBranchFreeAttention(layers, patches);
    if (wrapper) unifyFeedForwardTypes(layers, patches);
  });
  return captureLayers(model);
}

describe.each(both)('on %s', (name) => {
  test.each<[string, Tricks, Record<Published, number>]>([
    ['upstream', {}, upstream],
    ['residual zeros alone', { zeros: true }, oneTrickLess],
    ['type unification alone', { unified: true }, upstream],
    ['the feed-forward wrapper alone', { wrapper: true }, upstream],
    ['zeros and branch-free, without unification', { zeros: true, branchFree: true }, oneTrickLess],
    ["as upstream's plugin ships", { zeros: true, unified: true, wrapper: true }, oneTrickLess],
    ['zeros, unified, branch-free', { zeros: true, unified: true, branchFree: true }, allTricks],
  ])('%s: the layer graphs of the table', async (_variant, tricks, expected) => {
    expect((await graphsWith(name, tricks)).count).toBe(expected[name]);
  });

  const all = { zeros: true, unified: true, branchFree: true, wrapper: true };
  const floor = name === 'Maverick' ? ['feed_forward.inner'] : []; // dense and MoE differ whatever is done

  test.each<[string, Tricks, string]>([
    ['zeros', { ...all, zeros: false }, 'residual'],
    ['unification', { ...all, unified: false }, 'self_attn.attn'],
    ['branch-free attention', { ...all, branchFree: false }, 'self_attn.rotary_emb'],
  ])('without %s there is a graph more, and the recompile names the attribute', async (_trick, tricks, attribute) => {
    const { count, reasons } = await graphsWith(name, tricks);
    expect(count).toBe(oneTrickLess[name]);
    expect(reasons).toEqual([...floor, attribute].sort());
  });

  test('without the wrapper nothing changes, since a guard sees the class behind it', async () => {
    expect(await graphsWith(name, all)).toMatchObject({ count: allTricks[name], reasons: floor });
    const without = await graphsWith(name, { ...all, wrapper: false });
    expect(without).toMatchObject({ count: allTricks[name], reasons: floor.map(() => 'feed_forward') });
  });

  test('diffGuards names what two layers need two graphs for, and nothing once they share one', async () => {
    const paths = async (tricks: Tricks) =>
      diffGuards((await graphsWith(name, tricks)).captured, 'model.layers.1', 'model.layers.3').map(({ path }) => path);
    const qkNorm = name === 'Scout' ? ['self_attn.qk_norm'] : [];
    expect((await paths({})).sort()).toEqual(
      ['self_attn.attn', 'self_attn.attnTemperatureTuning', 'self_attn.nope', ...qkNorm, 'self_attn.rotary_emb'].sort(),
    );
    expect(await paths(all)).toEqual([]);
  });
});

test.each(both)(
  'the forecast for %s equals the captures counted, at 144 prompt and 90 decode buckets',
  { timeout: 60_000 },
  async (name) => {
    const { model } = await buildPatched('Llama4ForCausalLM', contextOf(name));
    const buckets = [
      ...Array.from({ length: 144 }, (_, i) => ({ batch: 1, sequence: 128 * (i + 2) })),
      ...Array.from({ length: 90 }, (_, i) => ({ batch: i + 1, sequence: 1 })),
    ];
    const named = buckets.map((bucket) => [`${bucket.batch} x ${bucket.sequence}`, bucket] as const);
    const forecast = predict(named, (bucket, cache) => captureLanguageModel(model, cache, bucket));
    const cache = new CaptureCache();
    for (const bucket of buckets) captureLanguageModel(model, cache, bucket);
    expect(forecast.regions).toEqual([{ region: 'decoder-layer', graphs: cache.count('decoder-layer') }]);
    expect(forecast.graphs).toBe(234 * allTricks[name]);
    expect(forecast.buckets.every(({ regions }) => regions[0]?.graphs === allTricks[name])).toBe(true);
  },
);

describe.each(architectures)('on %s', (architecture) => {
  const small = (name: Published, layers: number, options = {}, more = {}) =>
    contextOf(name, { num_hidden_layers: layers, ...more }, options);
  const built = (mode = 'compile') => buildPatched(architecture, { ...small('Maverick', 8), mode });
  const unpatched = async () => (await build(architecture, small('Maverick', 8))).model;

  test('both architectures are patched, and upstream is not', async () => {
    expect(isHpuLlama4Model(await unpatched())).toBe(true);
    expect(isHpuLlama4Model(new Llama4ForCausalLM(small('Scout', 1)))).toBe(false);
  });

  test('after the class swap each layer keeps the KV cache spec of its chunk, and is marked', async () => {
    const specs = (model: Llama4) => layersOf(model).map(({ self_attn }) => self_attn.attn.getKvCacheSpec());
    const before = await unpatched();
    const chunked = layersOf(before).map(({ self_attn }) => self_attn.attn instanceof ChunkedLocalAttention);
    const { model } = await built();
    expect(specs(model)).toEqual(specs(before));
    expect(specs(model)[0]).toMatchObject({ kind: 'chunked-local', chunkSize: 8192 });
    expect(layersOf(model).map(({ self_attn }) => [self_attn.attn.constructor.name, 'wasChunkedLocal' in self_attn.attn])).toEqual(
      chunked.map((was) => ['Attention', was]),
    );
  });

  test('the lent rotary stands once in namedModules and adds no parameter', async () => {
    const { model } = await built();
    const rotaries = new Set(layersOf(model).map(({ self_attn }) => self_attn.rotary_emb));
    expect(rotaries.size).toBe(1);
    expect([...model.namedModules()].filter(([, module]) => module === [...rotaries][0])).toHaveLength(1);
    expect([...model.namedParameters()].filter(([name]) => /rotary|Mask/.test(name))).toEqual([]);
    expect([...model.namedBuffers()].filter(([name]) => name.endsWith('Mask'))).toHaveLength(4 * 8);
  });

  test('checkpoint keys are the same before and after init; post-load renames by .inner and nothing else', async () => {
    const names = [...(await unpatched()).namedParameters()].map(([name]) => name);
    const { model, hooks } = await built();
    expect([...hooks.parametersAtLoad(model).keys()]).toEqual(names);
    const renamed = (name: string) => name.replace(/\.feed_forward\./, '.feed_forward.inner.');
    expect(hooks.toJSON().renames.map(({ from, to }) => [from, to])).toEqual(
      names.filter((name) => name.includes('.feed_forward.')).map((name) => [name, renamed(name)]),
    );
    expect([...model.namedParameters()].map(([name]) => name)).toEqual(names.map(renamed));
    expect(layersOf(model).every(({ feed_forward }) => (feed_forward as unknown) instanceof HpuLlama4FeedForward)).toBe(true);
  });

  test.each([
    ['lazy', ['llama4-hpu: setChunkedAttention', 'llama4-hpu: patchAttentionScale']],
    ['eager', ['llama4-hpu: setChunkedAttention']],
  ])('in mode %s the ledger holds none of the compile-mode patches, only what the runner of that mode needs', async (mode, expected) => {
    const { hooks: runner } = await built(mode);
    const { hooks, patches, renames } = runner.toJSON();
    expect([...new Set(patches.map(({ hook }) => hook))]).toEqual(expected);
    expect(renames).toEqual([]);
    const skipped = hooks.filter(({ outcome }) => outcome === 'skipped: other mode').map(({ hook }) => hook);
    expect(skipped).toEqual(expect.arrayContaining(['HpuLlama4ForCausalLM.unifyLayers', 'HpuLlama4ForCausalLM.unifyFeedForward']));
  });

  test("hooks run in the order of vllm_gaudi: the classes' init patches, chunked-attention flag, attention scale, then the post-load patches", async () => {
    const { hooks: runner } = await built();
    expect(runner.toJSON().hooks.map(({ phase, hook, outcome }) => [phase, hook, outcome])).toEqual([
      ['init', 'HpuLlama4ForCausalLM.unifyLayers', 'ran'],
      ['init', 'llama4-hpu: setChunkedAttention', 'ran'],
      ['init', 'llama4-hpu: patchAttentionScale', 'ran'],
      ['postLoad', 'HpuLlama4ForCausalLM.unifyFeedForward', 'ran'],
    ]);
  });

  test.each(['compile', 'lazy', 'eager'])('in mode %s the layers whose cache is that of a chunk are marked, and no other', async (mode) => {
    const { model } = await built(mode);
    const chunked = layersOf(model).filter(({ self_attn }) => self_attn.attn.getKvCacheSpec().kind === 'chunked-local');
    expect(chunked).toHaveLength(6);
    expect(chunkedAttentionLayers(model)).toEqual(chunked);
  });

  test('in compile mode the ledger lists each patch with its owner, and undoing all restores the 4 graphs', async () => {
    const { model, hooks } = await built();
    const { patches } = hooks.toJSON();
    const counts = (operation: string) => patches.filter((record) => record.operation === operation).length;
    // 8 layers: 6 chunked ones change class, keep their spec and are marked twice; every one gets a forward, a temperature, 4 masks and a wrapper; 2 are
    // lent a rotary and, since Maverick norms no queries, all 8 an Identity.
    expect([counts('swapClass'), counts('replaceMethod'), counts('setField'), counts('lend'), counts('wrapChild')]).toEqual([
      6, 22, 44, 10, 8,
    ]);
    expect(patches.every(({ plugin, path, reason }) => plugin === 'llama4-hpu' && path !== '' && reason !== null)).toBe(true);
    expect(captureLayers(model).count).toBe(2);
    hooks.ledger.undoTo(0);
    expect(captureLayers(model).count).toBe(3); // the zeros are a method of the class, not a patch
    const bare = new Llama4ForCausalLM(contextOf('Maverick', { num_hidden_layers: 8 }));
    const ledger = patch((patches) => {
      unifyAttentionTypes(layersOf(bare), patches);
      applyBranchFreeAttention(layersOf(bare), patches);
      unifyFeedForwardTypes(layersOf(bare), patches);
    });
    ledger.undoTo(0);
    expect(captureLayers(bare).count).toBe(4);
  });

  test('a model without a RoPE layer is left as it is, with a warning', async () => {
    const { model, hooks: runner } = await buildPatched(architecture, small('Scout', 2, {}, { no_rope_layers: [0, 0] }));
    const { hooks, patches } = runner.toJSON();
    expect(patches.map(({ operation }) => operation)).toEqual(['replaceMethod', 'replaceMethod', 'wrapChild', 'wrapChild']);
    expect(hooks[0]!.warnings).toEqual([expect.stringContaining('No layer has a rotation')]);
    expect(captureLayers(model).count).toBe(1);
  });

  test('an option that the plugin does not have, or a value that it cannot take, is refused', async () => {
    const make = (options: Record<string, unknown>) => build(architecture, small('Scout', 1, options));
    await expect(make({ branchfree: true })).rejects.toMatchObject({
      code: 'GRAFT_HPU_OPTION',
      what: expect.stringContaining('"branchfree"'),
    });
    await expect(make({ branchFree: 'no' })).rejects.toMatchObject({ code: 'GRAFT_HPU_OPTION', what: expect.stringContaining('"no"') });
  });
});
