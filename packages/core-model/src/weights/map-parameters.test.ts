import { expect, test } from 'vitest';
import { llama } from '../families/llama.ts';
import { llama4 } from '../families/llama4.ts';
import type { Checkpoint, CheckpointTensor } from './checkpoint.ts';
import { failure } from './checkpoint-files.fixture.ts';
import type { FileBytes } from './file-bytes.ts';
import { mapParameters } from './map-parameters.ts';
import type { WeightRules } from './rules.ts';

const file: FileBytes = { path: '/models/tiny', byteLength: 0, read: () => new Uint8Array(0), close: () => undefined };

/** A checkpoint whose tensors have these shapes and no data. */
function checkpoint(shapes: Record<string, number[]>, kind: Checkpoint['kind'] = 'safetensors'): Checkpoint {
  const tensors = Object.entries(shapes).map(([key, shape]): [string, CheckpointTensor] => [
    key,
    { key, dtype: 'BF16', shape, file, offset: 0, byteLength: 0 },
  ]);
  return {
    path: file.path,
    kind,
    config: {},
    metadata: null,
    tensors: new Map(tensors),
    fingerprint: async () => '',
    [Symbol.dispose]: () => undefined,
  };
}

// q has 64 rows, k and v 32.
const sizes = { num_attention_heads: 4, num_key_value_heads: 2, head_dim: 16, hidden_size: 32 };
const multimodal = llama4.small()['Llama4ForConditionalGeneration']!;
const rulesOf = (overrides: Record<string, unknown> = {}, images = false): WeightRules =>
  llama4.weights(llama4.parseConfig(multimodal, { overrides: { ...sizes, ...overrides }, images }));
const ggufRules = llama.gguf!.weights(llama.parseConfig({ ...llama.small()['LlamaForCausalLM'], ...sizes }));

/** For each parameter the keys that it is made of, with what is taken of each. */
function sources(
  parameters: Record<string, number[]>,
  from: Checkpoint,
  rules = from.kind === 'gguf' ? ggufRules : rulesOf(),
): Record<string, string[]> {
  const mapped = mapParameters(Object.entries(parameters), from, { rules });
  return Object.fromEntries(
    mapped.map(({ name, segments }) => [
      name,
      segments.map((s) => `${s.tensor.key}+${s.first}:${s.elements}${s.arrangement ? ' transposed' : ''}`),
    ]),
  );
}

const layer = 'model.layers.0';

test('q, k, v and gate, up are stacked in this order, weights and biases', () => {
  const parts = { q_proj: 64, k_proj: 32, v_proj: 32 };
  const shapes = Object.fromEntries(
    Object.entries(parts).flatMap(([part, rows]) => [
      [`${layer}.self_attn.${part}.weight`, [rows, 32]],
      [`${layer}.self_attn.${part}.bias`, [rows]],
    ]),
  );
  const from = checkpoint({
    ...shapes,
    [`${layer}.feed_forward.up_proj.weight`]: [48, 32],
    [`${layer}.feed_forward.gate_proj.weight`]: [48, 32],
  });
  expect(
    sources(
      {
        [`${layer}.self_attn.qkv_proj.weight`]: [128, 32],
        [`${layer}.self_attn.qkv_proj.bias`]: [128],
        [`${layer}.feed_forward.gate_up_proj.weight`]: [96, 32],
      },
      from,
    ),
  ).toEqual({
    [`${layer}.self_attn.qkv_proj.weight`]: [
      `${layer}.self_attn.q_proj.weight+0:2048`,
      `${layer}.self_attn.k_proj.weight+0:1024`,
      `${layer}.self_attn.v_proj.weight+0:1024`,
    ],
    [`${layer}.self_attn.qkv_proj.bias`]: [
      `${layer}.self_attn.q_proj.bias+0:64`,
      `${layer}.self_attn.k_proj.bias+0:32`,
      `${layer}.self_attn.v_proj.bias+0:32`,
    ],
    [`${layer}.feed_forward.gate_up_proj.weight`]: [
      `${layer}.feed_forward.gate_proj.weight+0:1536`,
      `${layer}.feed_forward.up_proj.weight+0:1536`,
    ],
  });
});

test('experts come transposed from one tensor, or one by one', () => {
  const experts = `${layer}.feed_forward.experts`;
  const model = { [`${experts}.w13_weight`]: [2, 96, 32], [`${experts}.w2_weight`]: [2, 32, 48] };
  expect(sources(model, checkpoint({ [`${experts}.gate_up_proj`]: [2, 32, 96], [`${experts}.down_proj`]: [2, 48, 32] }))).toEqual({
    [`${experts}.w13_weight`]: [`${experts}.gate_up_proj+0:3072 transposed`, `${experts}.gate_up_proj+3072:3072 transposed`],
    [`${experts}.w2_weight`]: [`${experts}.down_proj+0:1536 transposed`, `${experts}.down_proj+1536:1536 transposed`],
  });
  const single = Object.fromEntries(
    [0, 1].flatMap((e) => [
      [`${experts}.${e}.gate_proj.weight`, [48, 32]],
      [`${experts}.${e}.up_proj.weight`, [48, 32]],
      [`${experts}.${e}.down_proj.weight`, [32, 48]],
    ]),
  );
  expect(sources(model, checkpoint(single))).toEqual({
    [`${experts}.w13_weight`]: [
      `${experts}.0.gate_proj.weight+0:1536`,
      `${experts}.0.up_proj.weight+0:1536`,
      `${experts}.1.gate_proj.weight+0:1536`,
      `${experts}.1.up_proj.weight+0:1536`,
    ],
    [`${experts}.w2_weight`]: [`${experts}.0.down_proj.weight+0:1536`, `${experts}.1.down_proj.weight+0:1536`],
  });
});

test('a GGUF has names of its own', () => {
  const parts = {
    attn_q: [64, 32],
    attn_k: [32, 32],
    attn_v: [32, 32],
    attn_output: [32, 64],
    attn_norm: [32],
    ffn_norm: [32],
    ffn_gate: [48, 32],
    ffn_up: [48, 32],
    ffn_down: [32, 48],
  };
  const shapes = Object.fromEntries(Object.entries(parts).map(([part, shape]) => [`blk.7.${part}.weight`, shape]));
  const from = checkpoint({ ...shapes, 'token_embd.weight': [100, 32], 'output_norm.weight': [32], 'output.weight': [100, 32] }, 'gguf');
  const seven = 'model.layers.7';
  const keys = sources(
    {
      'model.embed_tokens.weight': [100, 32],
      [`${seven}.input_layernorm.weight`]: [32],
      [`${seven}.self_attn.qkv_proj.weight`]: [128, 32],
      [`${seven}.self_attn.o_proj.weight`]: [32, 64],
      [`${seven}.post_attention_layernorm.weight`]: [32],
      [`${seven}.mlp.gate_up_proj.weight`]: [96, 32],
      [`${seven}.mlp.down_proj.weight`]: [32, 48],
      'model.norm.weight': [32],
      'lm_head.weight': [100, 32],
    },
    from,
  );
  expect(
    Object.values(keys)
      .flat()
      .map((source) => source.split('+')[0]),
  ).toEqual([
    'token_embd.weight',
    ...['attn_norm', 'attn_q', 'attn_k', 'attn_v', 'attn_output', 'ffn_norm', 'ffn_gate', 'ffn_up', 'ffn_down'].map(
      (part) => `blk.7.${part}.weight`,
    ),
    'output_norm.weight',
    'output.weight',
  ]);
});

test('with or without the prefix of the language model, on either side', () => {
  for (const inModel of ['', 'language_model.']) {
    for (const inFile of ['', 'language_model.']) {
      expect(sources({ [`${inModel}model.norm.weight`]: [32] }, checkpoint({ [`${inFile}model.norm.weight`]: [32] }))).toEqual({
        [`${inModel}model.norm.weight`]: [`${inFile}model.norm.weight+0:32`],
      });
    }
  }
});

test('a text model leaves out vision, a model with vision does not', async () => {
  const from = checkpoint({
    'language_model.model.norm.weight': [32],
    'vision_model.class_embedding': [8],
    'multi_modal_projector.linear_1.weight': [32, 8],
  });
  expect(Object.keys(sources({ 'model.norm.weight': [32] }, from))).toEqual(['model.norm.weight']);
  const model = {
    'language_model.model.norm.weight': [32],
    'vision_model.class_embedding': [8],
    'multi_modal_projector.linear_1.weight': [32, 8],
  };
  expect(Object.keys(sources(model, from, rulesOf({}, true)))).toEqual(Object.keys(model));
  const error = await failure(() =>
    sources(
      { 'language_model.model.norm.weight': [32], 'vision_model.class_embedding': [8] },
      checkpoint({ 'language_model.model.norm.weight': [32], 'vision_model.class_embedding': [8], 'vision_model.extra': [1] }),
      rulesOf({}, true),
    ),
  );
  expect(error.message).toMatch(/does not use 1 of the checkpoint's 3 tensors: "vision_model.extra"/);
});

test('left out on purpose: a tied head, old rotary tables, what the caller ignores', () => {
  const from = checkpoint({
    'model.norm.weight': [32],
    'lm_head.weight': [100, 32],
    [`${layer}.self_attn.rotary_emb.inv_freq`]: [8],
    'model.layers.9.extra': [1],
  });
  const mapped = mapParameters([['model.norm.weight', [32]]], from, {
    rules: rulesOf({ tie_word_embeddings: true }),
    ignoreKeys: (key) => key.startsWith('model.layers.9.'),
  });
  expect(mapped.map(({ name }) => name)).toEqual(['model.norm.weight']);
});

const missing = 'GRAFT_CHECKPOINT_MISSING_TENSOR';
const mismatch = 'GRAFT_CHECKPOINT_SHAPE_MISMATCH';
const qkv = `${layer}.self_attn.qkv_proj.weight`;
const projections = (q: number[], k: number[], v: number[]) => ({
  [`${layer}.self_attn.q_proj.weight`]: q,
  [`${layer}.self_attn.k_proj.weight`]: k,
  [`${layer}.self_attn.v_proj.weight`]: v,
});
const experts = `${layer}.feed_forward.experts`;

const wrong: [what: string, model: Record<string, number[]>, from: Checkpoint, code: string, message: RegExp][] = [
  [
    'a missing tensor',
    { 'model.norm.weight': [32] },
    checkpoint({ 'model.norn.weight': [32] }),
    missing,
    /"model.norm.weight" \[32\] needs "model.norm.weight".*Nearest keys: model.norn.weight/,
  ],
  [
    'a missing part',
    { [qkv]: [128, 32] },
    checkpoint({ [`${layer}.self_attn.q_proj.weight`]: [64, 32] }),
    missing,
    /qkv_proj.weight" \[128, 32\] needs ".*k_proj.weight", ".*v_proj.weight"/,
  ],
  [
    'missing experts',
    { [`${experts}.w2_weight`]: [2, 32, 48] },
    checkpoint({ x: [1] }),
    missing,
    /"model.layers.0.feed_forward.experts.down_proj"/,
  ],
  [
    'a missing expert',
    { [`${experts}.w2_weight`]: [2, 32, 48] },
    checkpoint({ [`${experts}.0.down_proj.weight`]: [32, 48] }),
    missing,
    /experts.1.down_proj.weight/,
  ],
  [
    'a parameter that GGUF has no name for',
    { [`${layer}.feed_forward.router.weight`]: [4, 32] },
    checkpoint({ 'token_embd.weight': [1, 32] }, 'gguf'),
    missing,
    /router.weight/,
  ],
  [
    'another length',
    { 'model.norm.weight': [32] },
    checkpoint({ 'model.norm.weight': [64] }),
    mismatch,
    /"model.norm.weight" \[32\] needs "model.norm.weight" as \[32\], and it is \[64\]/,
  ],
  ['another rank', { 'model.norm.weight': [32] }, checkpoint({ 'model.norm.weight': [32, 1] }), mismatch, /\[32, 1\]/],
  [
    'other columns',
    { [qkv]: [128, 32] },
    checkpoint(projections([64, 32], [32, 32], [32, 16])),
    mismatch,
    /v_proj.weight" as \[32, 32\], and it is \[32, 16\]/,
  ],
  ['rows that do not add up', { [qkv]: [128, 32] }, checkpoint(projections([64, 32], [16, 32], [16, 32])), mismatch, /\[128, 32\]/],
  ['k and v that differ', { [qkv]: [128, 32] }, checkpoint(projections([64, 32], [48, 32], [16, 32])), mismatch, /\[48, 32\]/],
  [
    'experts that are not transposed',
    { [`${experts}.w13_weight`]: [2, 96, 32] },
    checkpoint({ [`${experts}.gate_up_proj`]: [2, 96, 32] }),
    mismatch,
    /as \[2, 32, 96\], and it is \[2, 96, 32\]/,
  ],
  [
    'an expert of another shape',
    { [`${experts}.w2_weight`]: [1, 32, 48] },
    checkpoint({ [`${experts}.0.down_proj.weight`]: [48, 32] }),
    mismatch,
    /experts.0.down_proj.weight" as \[32, 48\], and it is \[48, 32\]/,
  ],
  [
    'a tensor that nothing uses',
    { 'model.norm.weight': [32] },
    checkpoint({ 'model.norm.weight': [32], 'model.norm.bias': [32] }),
    'GRAFT_CHECKPOINT_UNEXPECTED_TENSOR',
    /does not use 1 of the checkpoint's 2 tensors: "model.norm.bias"/,
  ],
  [
    'a tensor named __proto__',
    { 'model.norm.weight': [32] },
    checkpoint({ 'model.norm.weight': [32], ['__proto__']: [32] }),
    'GRAFT_CHECKPOINT_UNEXPECTED_TENSOR',
    /"__proto__"/,
  ],
];

test.each(wrong)('%s is an error with both names', async (_, model, from, code, message) => {
  const error = await failure(() => sources(model, from));
  expect(error.code).toBe(code);
  expect(error.message).toMatch(message);
  expect(error.where).toContain('/models/tiny');
});

test('of many unused tensors twenty are listed', async () => {
  const from = checkpoint(Object.fromEntries(Array.from({ length: 50 }, (_, i) => [`extra.${i}`, [1]])));
  expect((await failure(() => sources({}, from))).message).toMatch(/does not use 50 .*"extra.19" and 30 more/);
});
