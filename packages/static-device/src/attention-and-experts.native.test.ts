import { Attention, FusedMoe, GemmaRmsNorm, Linear, RotaryEmbedding } from '@graft/core-model';
import { captureModel, Dim, type HostTensor, InterpreterBackend, Module, memoryStorage, ops, type Tensor } from '@graft/graph';
import { expect, test } from 'vitest';
import { difference } from './device-model.fixture.ts';
import { EmulatedBackend } from './emulated-backend.ts';

const longrope = {
  type: 'longrope',
  theta: 10000,
  shortFactor: [1, 1.1, 1.3, 1.8],
  longFactor: [1.5, 3, 7, 20],
  originalMaxPositionEmbeddings: 12,
  attentionFactor: 1.2,
  partialRotaryFactor: 0.5,
} as const;

/** Parts that other families than Llama 4 have, over a residual stream of 64. */
class Layer extends Module {
  readonly norm = new GemmaRmsNorm(64, 1e-6);
  readonly qkv = new Linear(64, 128);
  readonly rotary = new RotaryEmbedding(16, 48, longrope);
  readonly attn = new Attention({ numHeads: 4, numKvHeads: 2, headDim: 16, scale: 0.25, window: 6, softcap: 2, sinks: true });
  readonly router = new Linear(64, 4, { bias: true });
  readonly experts: FusedMoe;
  readonly down = new Linear(32, 64);

  constructor(routing: 'softmax' | 'softmaxOfChosen') {
    super();
    this.experts = new FusedMoe(4, 2, 64, 32, { routing, activation: { kind: 'swigluOai', alpha: 1.702, limit: 0.5 }, bias: true });
    let state = 1;
    for (const [, parameter] of this.namedParameters()) {
      const count = parameter.shape.reduce((product, size) => product * size, 1);
      const data = Float32Array.from({ length: count }, () => Math.sin((state += 1.7)) * 0.3);
      parameter.setStorage(memoryStorage('float32', parameter.shape, { data }));
    }
  }

  forward(x: Tensor, positions: Tensor): Tensor {
    let [query, key, value] = this.qkv.forward(this.norm.forward(x)).split(64, 32, 32);
    [query, key] = this.rotary.forward(positions, query, key);
    const attended = this.attn.forward(query, key, value).add(x);
    const routed = this.experts.forward(attended, this.router.forward(attended)); // [batch, sequence, 64]
    return this.down.forward(ops.geluTanhAndMul({ x: routed })).add(attended);
  }
}

function captured(model: Layer, batch: number | Dim, sequence: number | Dim) {
  const [b, s] = [batch, sequence].map((size) => (typeof size === 'number' ? Dim.of(size) : size)) as [Dim, Dim];
  const inputs = { x: { dtype: 'float32', dims: [b, s, Dim.of(64)] }, positions: { dtype: 'int64', dims: [b, s] } } as const;
  return captureModel(model, { batch: b, inputs, call: (m, { x, positions }) => ({ y: m.forward(x, positions) }) });
}

/** Sequences that have `starts` tokens already and bring `real` each; the rest of `query` is padding. */
function step(starts: readonly number[], query: number, real = query): Record<string, HostTensor> {
  const batch = starts.length;
  const int32 = (dims: number[], values: number[]): HostTensor => ({ dtype: 'int32', dims, data: Int32Array.from(values) });
  const lengths = starts.map((start) => start + query);
  const places = starts.flatMap((start) => Array.from({ length: query }, (_, i) => start + Math.min(i, real - 1)));
  const x = Float32Array.from({ length: batch * query * 64 }, (_, i) => Math.cos(0.7 * i + (starts[0] ?? 0)));
  return {
    x: { dtype: 'float32', dims: [batch, query, 64], data: x },
    positions: { dtype: 'int64', dims: [batch, query], data: BigInt64Array.from(places, BigInt) },
    queryStart: int32([batch], [...starts]),
    sequenceLengths: int32([batch], lengths),
    totalLength: int32([], [Math.max(...lengths)]),
  };
}

test.each(['softmax', 'softmaxOfChosen'] as const)(
  'windows, caps, sinks, a part of a head rotated by longrope, and clamped experts with biases by %s',
  async (routing) => {
    const model = new Layer(routing);
    const bindRuntimeInput = (_path: string, kind: string) =>
      kind.startsWith('kvCache') ? ({ kind: 'cache', rows: 40 } as const) : ({ kind: 'input', name: kind } as const);
    const options = { bindRuntimeInput, kvSlots: 2 };
    using device = await new EmulatedBackend({ mode: 'lazy', threads: 1 }).open(model, { ...options, recipeDirectory: null });
    const anyShape = captured(model, Dim.symbol('batch'), Dim.symbol('sequence'));
    using oracle = await new InterpreterBackend().compile(anyShape, options);
    for (const [starts, query, real, firstSlot] of [
      [[0], 8, 5, 0],
      [[5], 8, 8, 0],
      [[0], 8, 3, 1],
      [[13, 3], 1, 1, 0],
      [[14], 8, 6, 0],
      [[20, 4], 1, 1, 0],
    ] as const) {
      const bucket = `${starts.length}x${query}`;
      await device.add(bucket, () => captured(model, starts.length, query));
      const given = { firstSlot, batch: starts.length, inputs: step(starts, query, real) };
      expect(difference((await device.run(bucket, given))['y']!, (await oracle.run(given))['y']!), bucket).toBeLessThan(1e-5);
    }
  },
);
