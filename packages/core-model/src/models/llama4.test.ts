import { type CapturedModel, captureModel, Dim, type Module, ModuleList, ops } from '@graft/graph';
import { describe, expect, test } from 'vitest';
import { type ModelContext, type PipelineStage, upstreamContext } from '../context.ts';
import { llama4 } from '../families/llama4.ts';
import type { Llama4Config } from '../families/llama4-config.ts';
import { Attention, ChunkedLocalAttention } from '../layers/attention.ts';
import { expectClose, runModule } from '../run-module.fixture.ts';
import { PipelineMissingLayer } from './decoder.ts';
import type { LanguageModel } from './interfaces.ts';
import { LlamaMlp } from './llama.ts';
import { type Llama4Attention, Llama4DecoderLayer, Llama4ForCausalLM, Llama4Moe } from './llama4.ts';
import { Llama4ForConditionalGeneration } from './mllama4.ts';

function context(more: Record<string, unknown> = {}, pipeline: PipelineStage = { rank: 0, size: 1 }): ModelContext<Llama4Config> {
  const config = llama4.parseConfig({
    vocab_size: 20,
    hidden_size: 8,
    intermediate_size: 6,
    intermediate_size_mlp: 10,
    num_hidden_layers: 4,
    num_attention_heads: 4,
    num_key_value_heads: 2,
    head_dim: 4,
    max_position_embeddings: 64,
    attention_chunk_size: 16,
    interleave_moe_layer_step: 2,
    num_local_experts: 3,
    ...more,
  });
  return upstreamContext('Llama4ForCausalLM', config, { maxModelLength: 32, pipeline });
}

const names = (model: Module): string[] => [...model.namedParameters()].map(([name]) => name);
const shapes = (model: Module): Record<string, readonly number[]> =>
  Object.fromEntries([...model.namedParameters()].map(([name, { shape }]) => [name, shape]));

describe("parameters have vLLM's names", () => {
  // vllm/model_executor/models/llama4.py, on one device: the stacked forms of q, k, v and of gate, up; experts in one tensor.
  const attention = (layer: string) => ({
    [`${layer}.self_attn.qkv_proj.weight`]: [32, 8],
    [`${layer}.self_attn.o_proj.weight`]: [8, 16],
  });
  const norms = (layer: string) => ({ [`${layer}.input_layernorm.weight`]: [8], [`${layer}.post_attention_layernorm.weight`]: [8] });

  test('and shapes: a dense layer, one with experts, both ends', () => {
    const model = new Llama4ForCausalLM(context({ num_hidden_layers: 2 }));
    expect(shapes(model)).toEqual({
      'model.embed_tokens.weight': [20, 8],
      ...attention('model.layers.0'),
      'model.layers.0.feed_forward.gate_up_proj.weight': [20, 8],
      'model.layers.0.feed_forward.down_proj.weight': [8, 10],
      ...norms('model.layers.0'),
      ...attention('model.layers.1'),
      'model.layers.1.feed_forward.router.weight': [3, 8],
      'model.layers.1.feed_forward.experts.w13_weight': [3, 12, 8],
      'model.layers.1.feed_forward.experts.w2_weight': [3, 8, 6],
      'model.layers.1.feed_forward.shared_expert.gate_up_proj.weight': [12, 8],
      'model.layers.1.feed_forward.shared_expert.down_proj.weight': [8, 6],
      ...norms('model.layers.1'),
      'model.norm.weight': [8],
      'lm_head.weight': [20, 8],
    });
  });

  test('a model with images has the same ones under language_model', () => {
    const text = names(new Llama4ForCausalLM(context()));
    expect(names(new Llama4ForConditionalGeneration(context()))).toEqual(text.map((name) => `language_model.${name}`));
  });

  test('attention_bias adds a bias to both projections, and nowhere else', () => {
    const biases = names(new Llama4ForCausalLM(context({ attention_bias: true, num_hidden_layers: 1 }))).filter((n) => n.endsWith('bias'));
    expect(biases).toEqual(['model.layers.0.self_attn.qkv_proj.bias', 'model.layers.0.self_attn.o_proj.bias']);
  });
});

test('tied embeddings have one weight, which gives the logits as well', () => {
  const model = new Llama4ForCausalLM(context({ tie_word_embeddings: true }));
  expect(names(model)).not.toContain('lm_head.weight');
  const { graph } = capture(model);
  const last = graph.nodes.at(-1)!;
  const embedding = graph.weights.find(({ path }) => path === 'model.embed_tokens.weight');
  expect(last).toMatchObject({ kind: 'op', op: ops.linear, inputs: { weight: embedding!.value } });
});

describe("a layer's kind", () => {
  const attentionOf = (more: Record<string, unknown>, layer: number): Llama4Attention =>
    (new Llama4ForCausalLM(context(more)).model.layers[layer] as Llama4DecoderLayer).self_attn;

  test('with rope: rotated, normed when the config says so, chunked unless there is no chunk size', () => {
    const rope = attentionOf({}, 0);
    expect([rope.rotary_emb !== null, rope.qk_norm !== null, rope.attn.constructor, rope.attnTemperatureTuning]).toEqual([
      true,
      true,
      ChunkedLocalAttention,
      false,
    ]);
    expect(attentionOf({ use_qk_norm: false }, 0).qk_norm).toBeNull();
    expect(attentionOf({ attention_chunk_size: null }, 0).attn.constructor).toBe(Attention);
  });

  test('without rope: neither, attends to all, and scales by position when the config says so', () => {
    const nope = attentionOf({}, 3);
    expect([nope.rotary_emb, nope.qk_norm, nope.attn.constructor, nope.attnTemperatureTuning]).toEqual([null, null, Attention, true]);
    expect(attentionOf({ attn_temperature_tuning: false }, 3).attnTemperatureTuning).toBe(false);
  });

  test('decides the feed-forward part', () => {
    const layers = [...new Llama4ForCausalLM(context()).model.layers] as Llama4DecoderLayer[];
    expect(layers.map((layer) => layer.feed_forward.constructor)).toEqual([LlamaMlp, Llama4Moe, LlamaMlp, Llama4Moe]);
  });
});

test('queries are scaled by ln(floor((position + 1) / floor_scale) + 1) * attn_scale + 1', async () => {
  const model = new Llama4ForCausalLM(context({ floor_scale: 8, attn_scale: 0.1 }));
  const { self_attn } = model.model.layers[3] as Llama4DecoderLayer;
  const positions = { dims: [2, 3], data: BigInt64Array.of(0n, 6n, 7n, 14n, 15n, 63n) };
  const { scale } = await runModule(self_attn, { positions }, (module, tensors) => ({ scale: module.getAttnScale(tensors.positions) }));
  expect(scale!.dims).toEqual([2, 3, 1]);
  // ln 1, ln 1, ln 2, ln 2, ln 3, ln 9.
  expectClose(scale!.values, [1, 1, 1.0693147, 1.0693147, 1.1098612, 1.2197225]);
});

describe('on pipeline ranks', () => {
  const ranks = (size: number, more: Record<string, unknown> = {}) =>
    Array.from({ length: size }, (_, rank) => new Llama4ForCausalLM(context(more, { rank, size })));

  test('each holds its own layers under their own numbers, the ends hold the ends', () => {
    const whole = names(new Llama4ForCausalLM(context()));
    const [first, last] = ranks(2).map(names) as [string[], string[]];
    expect([...first, ...last]).toEqual(whole);
    expect(first.at(0)).toBe('model.embed_tokens.weight');
    expect(last.at(0)).toBe('model.layers.2.self_attn.qkv_proj.weight');
  });

  test.each([2, 3, 4])('%i ranks hold every layer once, and placeholders elsewhere', (size) => {
    const held = ranks(size, { num_hidden_layers: 7 }).map(({ model }) =>
      [...model.layers].map((layer) => layer instanceof Llama4DecoderLayer),
    );
    expect(Array.from({ length: 7 }, (_, layer) => held.filter((rank) => rank[layer]).length)).toEqual(new Array(7).fill(1));
    expect(ranks(size)[0]!.model.layers).toBeInstanceOf(ModuleList);
    expect(ranks(size)[0]!.model.layers[3]).toBeInstanceOf(PipelineMissingLayer);
  });

  test('tied embeddings stand on both ends, since the last gives the logits', () => {
    const [first, middle, last] = ranks(3, { tie_word_embeddings: true }).map(names) as [string[], string[], string[]];
    expect([first, middle, last].map((rank) => rank.includes('model.embed_tokens.weight'))).toEqual([true, false, true]);
  });

  test('the first gives hidden states and residual, the next goes on from them', () => {
    const [first, last] = ranks(2) as [Llama4ForCausalLM, Llama4ForCausalLM];
    const handed = capture(first, (model, { inputIds, positions }) => ({ out: model.forward(inputIds, positions, null, null) }));
    expect(handed.graph.outputs.map(({ name }) => name)).toEqual(['out.hidden_states', 'out.residual']);
    expect(regionPaths(handed)).toEqual(['model.layers.0', 'model.layers.1']);

    const taken = capture(last, (model, { inputIds, positions, hidden, residual }) => ({
      out: model.forward(inputIds, positions, { hidden_states: hidden, residual }, null),
    }));
    const given = new Map(taken.graph.inputs.map(({ name, value }) => [value, name]));
    const layer = taken.graph.nodes[0]!;
    expect([layer.kind, layer.path]).toEqual(['region', 'model.layers.2']);
    expect(layer.kind === 'region' && layer.inputs.map((value) => given.get(value))).toEqual(['positions', 'hidden', 'residual']);
  });
});

describe('auxiliary hidden states', () => {
  const streams = (layers: number[], pipeline?: PipelineStage): CapturedModel => {
    const model = new Llama4ForCausalLM(context({}, pipeline));
    model.setAuxHiddenStateLayers(layers);
    return capture(model, (proxy, { inputIds, positions, hidden, residual }) => {
      const before = pipeline === undefined || pipeline.rank === 0 ? null : { hidden_states: hidden, residual };
      return { out: proxy.forward(inputIds, positions, before, null) };
    });
  };
  /** What gives each auxiliary state: `embedding`, or `add of LAYER` for the sum of a layer's two outputs. */
  const sources = ({ graph }: CapturedModel): string[] =>
    graph.outputs
      .filter(({ name }) => name.startsWith('out.1.'))
      .map(({ value }) => {
        const maker = graph.nodes.find(({ outputs }) => outputs.includes(value))!;
        if (maker.kind === 'region') return maker.path;
        const summed = Object.values(maker.inputs).map((input) => graph.nodes.find(({ outputs }) => outputs.includes(input!)));
        const layers = new Set(summed.map((node) => (node?.kind === 'region' ? node.path : node?.kind)));
        return maker.op === ops.embedding ? 'embedding' : `${maker.op.name} of ${[...layers].join()}`;
      });

  test('0 is the embedding, k what enters layer k, the number of layers what leaves the last; in order', () => {
    expect(sources(streams([4, 0, 2]))).toEqual(['embedding', 'add of model.layers.1', 'add of model.layers.3']);
  });

  test('none are given unless asked for', () => {
    expect(streams([]).graph.outputs.map(({ name }) => name)).toEqual(['out']);
  });

  test('each rank gives those of its own layers', () => {
    expect(sources(streams([0, 2, 4], { rank: 0, size: 2 }))).toEqual(['embedding', 'add of model.layers.1']);
    expect(sources(streams([0, 2, 4], { rank: 1, size: 2 }))).toEqual(['add of model.layers.3']);
  });
});

test('given embeddings take the place of the embedded ids', () => {
  const { graph } = capture(new Llama4ForCausalLM(context()), (model, { inputIds, positions, hidden }) => ({
    out: model.forward(inputIds, positions, null, hidden),
  }));
  expect(graph.nodes.some((node) => node.kind === 'op' && node.op === ops.embedding)).toBe(false);
  expect(graph.weights.map(({ path }) => path)).not.toContain('model.embed_tokens.weight');
});

type Call<M> = Parameters<typeof captureModel<Module & M, ReturnType<typeof inputs>>>[1]['call'];

function inputs() {
  const [batch, sequence] = [Dim.symbol('batch'), Dim.symbol('sequence')];
  const hidden = { dtype: 'float32', dims: [batch, sequence, Dim.of(8)] } as const;
  const ids = { dtype: 'int64', dims: [batch, sequence] } as const;
  return { inputIds: ids, positions: ids, hidden, residual: hidden };
}

/** The whole model's graph; by default its logits. */
function capture(
  model: Llama4ForCausalLM,
  call: Call<LanguageModel> = (proxy, { inputIds, positions, hidden }) => {
    proxy.forward(inputIds, positions, null, null);
    return { logits: proxy.computeLogits(hidden) };
  },
): CapturedModel {
  return captureModel(model as Module & LanguageModel, { inputs: inputs(), call });
}

function regionPaths({ graph }: CapturedModel): string[] {
  return graph.nodes.flatMap((node) => (node.kind === 'region' ? [node.path] : []));
}
