import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import {
  type Llama4Config,
  Llama4ForCausalLM,
  Llama4ForConditionalGeneration,
  Llama4VisionModel,
  type ModelContext,
  RmsNorm,
} from '@graft/core-model';
import { Identity, ops, Parameter, type Tensor } from '@graft/graph';
import { definePlugin, InitHook, type Patches, type Plugin, PostLoadHook } from '@graft/registry';
import { afterEach, describe, expect, test } from 'vitest';
import { caseFolder, failureOf, folderWithTokenizer, root, temporaryFolder } from './engine.fixture.ts';
import { watch } from './interpreter-plugin.fixture.ts';
import { type VerifyOptions, verify } from './verify.ts';

function doubled(x: Tensor): Tensor {
  return x.mul(2);
}
const plugins = [join(root, 'packages/engine/src/interpreter-plugin.fixture.ts')];
afterEach(() => watch.reset());

type Model = typeof Llama4ForCausalLM | typeof Llama4ForConditionalGeneration;

function overriding(model: Model, { architecture = 'Llama4ForCausalLM', platform = 'interpreter', name = 'candidate' } = {}): Plugin {
  return definePlugin({ name, after: ['core-model'], overrides: [{ of: architecture, platform, model: async () => model as never }] });
}

/** Verifies an override on the interpreter; a tiny architecture with random weights unless a model is named. */
function verifyClass(model: Model, asked: VerifyOptions = {}) {
  const subject = asked.model === undefined && asked.config === undefined ? { architecture: 'Llama4ForCausalLM' } : {};
  const where = { app: root, plugins, cacheDirectory: join(temporaryFolder(), 'cache') };
  return verify({ ...where, ...subject, maxTokens: 4, ...asked }, { pluginsInCode: [overriding(model)] });
}

/** Another way to the same numbers. */
class Faithful extends Llama4ForCausalLM {
  @InitHook({ reason: 'one function for all layers' })
  replace(patches: Patches): void {
    for (const { self_attn } of this.layersBuilt()) patches.replaceMethod(self_attn, 'forward', self_attn.forward as never);
  }
  layersBuilt() {
    return [...this.model.layers].filter((layer) => 'self_attn' in layer);
  }
}

/** The third layer's feed-forward part gives a little more than it should. */
class Wrong extends Llama4ForCausalLM {
  @InitHook({ reason: 'a mistake' })
  scale(patches: Patches): void {
    const { feed_forward } = [...this.model.layers].filter((layer) => 'feed_forward' in layer)[2]!;
    const { forward } = feed_forward;
    patches.replaceMethod(feed_forward, 'forward', function (this: typeof feed_forward, x: Tensor): Tensor {
      return ops.mulScalar({ x: forward.call(this as never, x) }, { value: 1.001 });
    } as never);
  }
}

describe('an override that computes what upstream does', () => {
  test('is equal at every layer, and the record has kinds of layers, patches and ids of both models', async () => {
    const { text, record } = await verifyClass(Faithful);
    expect(record).toMatchObject({ verdict: 'equal', architecture: 'Llama4ForCausalLM', platform: 'interpreter', firstOver: null });
    expect(record.layers.map(({ layer, difference }) => [layer, difference])).toEqual(
      ['embedding', 0, 1, 2, 3, 4, 5, 6, 7].map((layer) => [layer, 0]), // eight layers in the small config
    );
    expect(record.logits).toMatchObject({ difference: 0, within: true });
    expect(record.override.tokenIds).toEqual(record.upstream.tokenIds);
    expect(record.override.tokenIds).toHaveLength(4);
    expect([record.upstream.modelClass, record.override.modelClass]).toEqual(['Llama4ForCausalLM', 'Faithful']);
    expect(record.upstream.patches).toEqual([]);
    expect(record.override.patches).toMatchObject([{ operation: 'replaceMethod', count: 8, reason: 'one function for all layers' }]);
    expect(record.upstream.kinds.map(({ paths }) => paths.length)).toEqual([1, 2, 3, 2]); // first; RoPE and MoE; RoPE and dense; NoPE and MoE
    expect(text).toContain('EQUAL: every layer and the logits within 1.0e-4, and the same greedy ids.');
    expect(text).toMatch(/decoder-layer#2 serves model\.layers\.2, 4, 6; unlike decoder-layer#0:\n +residual is .*, not null/);
    expect(JSON.parse(JSON.stringify(record))).toEqual(record);
  });

  test('is compared with upstream on a checkpoint’s weights and a text for its tokenizer', async () => {
    const { record } = await verifyClass(Faithful, { model: folderWithTokenizer(), prompt: 'hello world' });
    expect(record).toMatchObject({ verdict: 'equal', weights: expect.stringContaining('in float32') });
    expect(record.promptIds).toHaveLength(2); // "hello", " world"
  });

  test.each(['scout-tiny', 'top2-tiny'])('is equal on %s, past the end of an attention chunk', async (name) => {
    const { record } = await verifyClass(Faithful, { model: caseFolder(name) });
    expect(record.verdict).toBe('equal');
    expect(record.promptIds.length).toBeGreaterThan(16); // both have chunks of 16
  });

  test('of a multimodal model is equal in its vision tower too, whose image is in the prompt', async () => {
    class Multimodal extends Llama4ForConditionalGeneration {}
    const { record } = await verifyMultimodal(Multimodal);
    expect(record).toMatchObject({ verdict: 'equal', override: { modelClass: 'Multimodal' } });
    expect(record.layers.slice(0, 3).map(({ layer, difference }) => [layer, difference])).toEqual([
      ['image', 0],
      ['embedding', 0],
      [0, 0],
    ]);
    expect(record.promptIds.filter((id) => id === 300)).toHaveLength(4); // a tile of 4 x 4 patches, four of them a token
  });
});

function verifyMultimodal(model: Model) {
  const architecture = 'Llama4ForConditionalGeneration';
  return verify({ architecture, app: root, plugins, maxTokens: 2 }, { pluginsInCode: [overriding(model, { architecture })] });
}

describe('an override that computes something else', () => {
  test('differs, and the first layer where it does is named', async () => {
    const { text, record } = await verifyClass(Wrong);
    expect(record).toMatchObject({ verdict: 'differs', firstOver: 2 });
    expect(record.layers.filter(({ within }) => within).map(({ layer }) => layer)).toEqual(['embedding', 0, 1]);
    expect(text).toContain('DIFFERS: layer 2 is the first over 1.0e-4');
  });

  test('of images differs there first', async () => {
    class Bright extends Llama4ForConditionalGeneration {
      override embedImages(pixelValues: Tensor): Tensor {
        return super.embedImages(ops.mulScalar({ x: pixelValues }, { value: 1.01 }));
      }
    }
    const { text, record } = await verifyMultimodal(Bright);
    expect(record).toMatchObject({ verdict: 'differs', firstOver: 'image' });
    expect(record.layers[0]!.position).toBeGreaterThanOrEqual(10); // where its four tokens stand
    expect(record.layers[0]!.position).toBeLessThan(14);
    expect(text).toContain('DIFFERS: the image is the first over 1.0e-4');
  });

  test('is accepted if the tolerance is larger than the difference', async () => {
    const { record } = await verifyClass(Wrong, { tolerance: 0.1 });
    expect(record).toMatchObject({ firstOver: null, logits: { within: true } });
  });

  test('is compared on upstream’s answer even after its own first different token', async () => {
    class Negated extends Llama4ForCausalLM {
      override computeLogits(hiddenStates: Tensor): Tensor {
        return ops.mulScalar({ x: super.computeLogits(hiddenStates) }, { value: -1 });
      }
    }
    const { text, record } = await verifyClass(Negated);
    expect(record).toMatchObject({ verdict: 'differs', firstOver: null, ids: { equal: false, firstDifferent: 0 } });
    expect(record.layers.every(({ difference }) => difference === 0)).toBe(true); // which another answer would not leave
    expect(text).toContain('only the logits are over 1.0e-4; greedy ids differ from token 0 of the answer on');
  });
});

describe('an override whose numbers prove nothing', () => {
  test('because it patched the forward of modules that never run', async () => {
    class PatchesSpare extends Llama4ForCausalLM {
      readonly spare: { forward(x: Tensor): Tensor };

      constructor(context: ModelContext<Llama4Config>) {
        super(context);
        this.spare = new Identity();
      }

      @InitHook({ reason: 'meant to be faster' })
      replace(patches: Patches): void {
        patches.replaceMethod(this.spare, 'forward', doubled);
      }
    }
    const { text, record } = await verifyClass(PatchesSpare);
    expect(record).toMatchObject({ verdict: 'unproven', firstOver: null, ids: { equal: true } });
    expect(record.problems).toEqual([
      'The replaceMethod of Identity.forward at spare.forward (PatchesSpare.replace) is never read by `forward`.',
    ]);
    expect(text).toContain('UNPROVEN: ');
  });

  test('because it has a parameter that no checkpoint has', async () => {
    class Extra extends Llama4ForCausalLM {
      readonly gate = new Parameter([4]);
    }
    const { record } = await verifyClass(Extra);
    expect(record.verdict).toBe('unproven');
    expect(record.problems).toEqual(['The parameter "gate" is in no checkpoint: upstream has no parameter of that name.']);
  });

  test('because its hook changed nothing', async () => {
    class Idle extends Llama4ForCausalLM {
      @InitHook({ reason: 'meant to unify the layers' })
      unify(): void {
        for (const layer of this.model.layers) void layer;
      }
    }
    const { record } = await verifyClass(Idle);
    expect(record.verdict).toBe('unproven');
    expect(record.problems).toEqual(['The hook Idle.unify of plugin "candidate" ran and changed nothing.']);
  });

  test('because its hook wrote to the model without patches', async () => {
    class Direct extends Llama4ForCausalLM {
      @InitHook({ reason: 'meant to be recorded' })
      write(): void {
        Object.assign(this.model.norm!, { note: 1 });
      }
    }
    const { record } = await verifyClass(Direct);
    expect(record.problems).toEqual([
      'The hook Direct.write of plugin "candidate" made changes without its `patches`: model.norm.note was added.',
    ]);
  });

  test('because it lacks a parameter of upstream, or has one of another shape', async () => {
    class Unlike extends Llama4ForCausalLM {
      constructor(context: ModelContext<Llama4Config>) {
        super(context);
        Object.assign(this.model.layers[0]!, { input_layernorm: new Identity() });
        Object.assign(this.model.norm!, { weight: new Parameter([1]) });
      }
    }
    const { record } = await verifyClass(Unlike);
    expect(record.verdict).not.toBe('equal');
    expect(record.problems).toEqual([
      'Upstream\'s parameter "model.layers.0.input_layernorm.weight" is missing: nothing takes its weights.',
      expect.stringMatching(/^The parameter "model\.norm\.weight" has shape \[1\]; upstream's is \[\d+\]\.$/),
    ]);
  });

  test('because it replaced nothing in this model', async () => {
    class Tower extends Llama4VisionModel {}
    const tower = definePlugin({
      name: 'tower',
      after: ['core-model'],
      overrides: [{ of: 'Llama4VisionModel', platform: 'interpreter', model: async () => Tower }],
    });
    const asked = { app: root, plugins, architecture: 'Llama4ForCausalLM', maxTokens: 2 };
    const { record } = await verify(asked, { pluginsInCode: [tower] });
    expect(record).toMatchObject({
      verdict: 'unproven',
      problems: ['The override of Llama4VisionModel by plugin "tower" replaced nothing in this model.'],
    });
  });
});

test('next to one that serves, an override or a hook that is off is a problem', async () => {
  class MyNorm extends RmsNorm {}
  const hook = { of: 'RmsNorm', platform: 'interpreter', phase: 'init', run: function note() {} } as const;
  const norms = definePlugin({
    name: 'norms',
    after: ['core-model'],
    overrides: [{ of: 'RmsNorm', platform: 'interpreter', model: async () => MyNorm, when: () => 'too old' }],
    hooks: [hook],
  });
  const asked = { app: root, plugins, architecture: 'Llama4ForCausalLM', maxTokens: 2, without: ['norms: note'] };
  const { record } = await verify(asked, { pluginsInCode: [overriding(Faithful), norms] });
  expect(record).toMatchObject({
    verdict: 'unproven',
    problems: [
      'The override of RmsNorm by plugin "norms" does not serve: its `when` refused this device: too old.',
      'The hook norms: note of plugin "norms" does not run: switched off: --without "norms: note".',
    ],
  });
});

describe('an override that fails', () => {
  test('in a hook is in the record, with the step and the hook', async () => {
    class BreaksInHook extends Llama4ForCausalLM {
      @PostLoadHook({ reload: 'keep' })
      tooFar(): void {
        throw new Error('There is no such layer.');
      }
    }
    const { text, record } = await verifyClass(BreaksInHook);
    expect(record).toMatchObject({ verdict: 'failed', layers: [], upstream: { failure: null } });
    expect(record.override.failure).toMatchObject({ step: 'load', error: { code: 'GRAFT_HOOK_FAILED' } });
    expect(text).toMatch(/override failed at step load: .*\n {2}where: BreaksInHook\.tooFar\n/);
    expect(text).toContain('FAILED: nothing could be compared.');
    expect(record.upstream.tokenIds).toHaveLength(4);
  });

  test('in its forward is in the record, with the layer', async () => {
    class BreaksInForward extends Llama4ForCausalLM {
      @InitHook({})
      cut(patches: Patches): void {
        const { self_attn } = [...this.model.layers].filter((layer) => 'self_attn' in layer)[1]!;
        patches.replaceMethod(self_attn, 'forward', addsUnlike as never);
      }
    }
    function addsUnlike(positions: Tensor, hiddenStates: Tensor): Tensor {
      return ops.add({ a: hiddenStates, b: positions });
    }
    const { record } = await verifyClass(BreaksInForward);
    expect(record.verdict).toBe('failed');
    expect(record.override.failure).toMatchObject({
      step: 'capture',
      error: { where: expect.stringContaining('model.layers.1.self_attn') },
    });
  });

  test('returns a value from forward that is no output', async () => {
    class GivesNothing extends Llama4ForCausalLM {
      override forward(): never {
        return undefined as never;
      }
    }
    const { record } = await verifyClass(GivesNothing);
    expect(record.override.failure).toMatchObject({
      step: 'capture',
      error: { code: 'GRAFT_MODEL_OUTPUT', where: 'GivesNothing.forward', what: expect.stringContaining('undefined') },
    });
  });
});

test('a plugin with only hooks is compared with upstream without them', async () => {
  const hooked = definePlugin({
    name: 'hooked',
    after: ['core-model'],
    hooks: [
      {
        of: 'Llama4ForCausalLM',
        platform: 'interpreter',
        phase: 'init',
        run: function note(model: Llama4ForCausalLM, _context: unknown, patches: Patches) {
          patches.setField(model, 'noted', true, { readBy: 'whoever wants to know' });
        },
      },
    ],
  });
  const asked = { app: root, plugins, architecture: 'Llama4ForCausalLM', maxTokens: 2 };
  const { record } = await verify(asked, { pluginsInCode: [hooked] });
  expect(record).toMatchObject({ verdict: 'equal', upstream: { patches: [] }, override: { modelClass: 'Llama4ForCausalLM' } });
  expect(record.override.patches).toMatchObject([{ hook: 'hooked: note', operation: 'setField' }]);
});

test('only one of the two models is in memory at a time, and neither in the end', async () => {
  const alive: number[] = [];
  watch.beforeRun = () => void alive.push(watch.programsAlive);
  await verifyClass(Faithful);
  expect(new Set(alive)).toEqual(new Set([1]));
  expect(watch.programsAlive).toBe(0);
});

test('random weights depend on the seed only', async () => {
  const ids = async (seed: number) => (await verifyClass(Faithful, { seed })).record.upstream.tokenIds;
  const [first, again, other] = [await ids(7), await ids(7), await ids(8)];
  expect(again).toEqual(first);
  expect(other).not.toEqual(first);
});

test('a config from a file has random weights too', async () => {
  for (const config of [join(caseFolder('dense-tiny'), 'config.json'), caseFolder('dense-tiny')]) {
    const { record } = await verifyClass(Faithful, { config });
    expect(record).toMatchObject({
      verdict: 'equal',
      weights: expect.stringMatching(/^random from seed 1, for .*dense-tiny.config\.json$/),
    });
  }
});

test('the interpreter replaces a platform without a backend, and the record says so', async () => {
  const pluginsInCode = [overriding(Faithful, { platform: 'bare' })];
  const { text, record } = await verify({ app: root, plugins, architecture: 'Llama4ForCausalLM', maxTokens: 2 }, { pluginsInCode });
  expect(record).toMatchObject({ verdict: 'equal', platform: 'bare', mode: 'none' });
  expect(text).toContain('device: the interpreter, in place of platform "bare": its plugin binds no backend');
});

test('the interpreter replaces an absent platform, and the record says why', async () => {
  const absent = definePlugin({
    name: 'far',
    platforms: [{ name: 'far', modes: ['a', 'b'], detect: () => ({ device: 'absent', reason: 'no cable' }) }],
  });
  const pluginsInCode = [absent, overriding(Faithful, { platform: 'far' })];
  const { record } = await verify({ app: root, plugins, architecture: 'Llama4ForCausalLM', mode: 'b', maxTokens: 2 }, { pluginsInCode });
  expect(record).toMatchObject({ verdict: 'equal', mode: 'b', device: expect.stringMatching(/interpreter.*no cable/) });
});

describe('what cannot be verified', () => {
  const asked = { app: root, plugins, architecture: 'Llama4ForCausalLM' };

  test('is an architecture that nothing overrides there', async () => {
    expect(await failureOf(verify(asked))).toMatchObject({
      code: 'GRAFT_NOTHING_TO_VERIFY',
      what: expect.stringContaining('Llama4ForCausalLM'),
    });
    const elsewhere = await failureOf(verify({ ...asked, platform: 'bare' }, { pluginsInCode: [overriding(Faithful)] }));
    expect(elsewhere).toMatchObject({ code: 'GRAFT_NOTHING_TO_VERIFY', fix: 'name a platform that has an override: "interpreter".' });
  });

  test.each<[string, object, VerifyOptions, string, string]>([
    ['whose `when` refuses', { when: () => 'too old' }, {}, 'GRAFT_NOTHING_TO_VERIFY', 'its `when` refused this device: too old'],
    ['that is switched off', {}, { without: ['candidate: RmsNorm'] }, 'GRAFT_NOTHING_TO_VERIFY', 'switched off: --without'],
    ['of another mode', { modes: ['other'] }, {}, 'GRAFT_NOTHING_TO_VERIFY', 'serves mode "other", not "full"'],
    ['under a misspelt name', {}, { without: ['candidate: RmsNrom'] }, 'GRAFT_WITHOUT_UNKNOWN', '"candidate: RmsNrom"'],
    ['that is required and refuses', { when: () => false }, { requireOverride: true }, 'GRAFT_OVERRIDE_UNUSED', 'refused this device'],
  ])('is an override %s, which ends before any work', async (_, override, more, code, words) => {
    class MyNorm extends RmsNorm {}
    const platforms = [{ name: 'moded', modes: ['full', 'other'], detect: () => 'emulated' as const }];
    const overrides = [{ of: 'RmsNorm', platform: 'moded', model: async () => MyNorm, ...override }];
    const candidate = definePlugin({ name: 'candidate', after: ['core-model'], platforms, overrides });
    const steps: string[] = [];
    const onProgress = ({ step }: { step: string }) => steps.push(step);
    const error = await failureOf(verify({ ...asked, ...more }, { pluginsInCode: [candidate], onProgress }));
    expect(error.code).toBe(code);
    expect(error.message).toContain(words);
    expect(steps).toEqual([]);
  });

  test('is a hook method under a misspelt name, which only the built model tells', async () => {
    const without = ['candidate: Faithful.replce'];
    expect((await failureOf(verifyClass(Faithful, { without }))).code).toBe('GRAFT_WITHOUT_UNKNOWN');
  });

  test('is an override for a platform that no plugin brings', async () => {
    const pluginsInCode = [overriding(Faithful, { platform: 'interpretr' })];
    expect(await failureOf(verify(asked, { pluginsInCode }))).toMatchObject({
      code: 'GRAFT_NOTHING_TO_VERIFY',
      what: expect.stringContaining('no loaded plugin brings platform "interpretr" (nearest: "interpreter")'),
      fix: expect.stringContaining('correct the platform'),
    });
  });

  test('is an override of several platforms, of which none is named', async () => {
    const pluginsInCode = [overriding(Faithful), overriding(Faithful, { platform: 'bare', name: 'other' })];
    expect(await failureOf(verify(asked, { pluginsInCode }))).toMatchObject({ code: 'GRAFT_ENGINE_CONFIG', where: '--platform' });
  });

  test.each([
    ['neither architecture nor model', {}, 'Neither an architecture nor a model is named'],
    ['an architecture without a small config', { architecture: 'Other' }, 'a small config of Other'],
    ['both a model and a config', { model: caseFolder('dense-tiny'), config: 'config.json' }, 'Both a checkpoint and a config'],
    ['a config that is not there', { config: '/nowhere/config.json' }, 'cannot be read'],
    ['a text without a tokenizer', { architecture: 'Llama4ForCausalLM', prompt: 'hello' }, 'no tokenizer'],
    ['an empty prompt', { architecture: 'Llama4ForCausalLM', prompt: [] }, 'The prompt is empty'],
    ['a token that there is not', { architecture: 'Llama4ForCausalLM', prompt: [320] }, 'Token 320 does not exist'],
  ])('is %s', async (_, subject, words) => {
    const error = await failureOf(verify({ app: root, plugins, ...subject }, { pluginsInCode: [overriding(Faithful)] }));
    expect(error.what).toContain(words);
  });

  test('is a misspelt architecture; the nearest name is given', async () => {
    const error = await failureOf(verify({ ...asked, architecture: 'Llama4ForConditionalGenration' }));
    expect(error.fix).toContain('the nearest one, Llama4ForConditionalGeneration,');
  });

  test('random weights that exceed the memory are refused before they are made', async () => {
    const config = join(temporaryFolder(), 'config.json');
    const large = {
      hidden_size: 1 << 20,
      intermediate_size: 1 << 22,
      vocab_size: 1 << 24,
      num_hidden_layers: 2,
      num_attention_heads: 8,
      max_position_embeddings: 64,
    };
    writeFileSync(
      config,
      JSON.stringify({ architectures: ['Llama4ForCausalLM'], model_type: 'llama4_text', num_key_value_heads: 8, ...large }),
    );
    expect((await failureOf(verifyClass(Faithful, { config }))).what).toMatch(/Random weights for this config take [\d.]+ GB/);
  });
});

test('an abort ends it with the signal’s reason', async () => {
  const controller = new AbortController();
  watch.beforeRun = () => controller.abort(new Error('enough'));
  const pluginsInCode = [overriding(Faithful)];
  const asked = { app: root, plugins, architecture: 'Llama4ForCausalLM' };
  await expect(verify(asked, { pluginsInCode, signal: controller.signal })).rejects.toThrow('enough');
  expect(watch.programsAlive).toBe(0);
});
