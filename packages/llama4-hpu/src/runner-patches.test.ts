import { Llama4ForCausalLM } from '@graft/core-model';
import { captureModel, Dim, InterpreterBackend } from '@graft/graph';
import { expect, test } from 'vitest';
import { contextOf, layersOf } from './layer-graphs.fixture.ts';
import { hpuAttnScale } from './runner-patches.ts';

test('the temperature computed over all positions as one row is upstream’s, value by value', async () => {
  const [layer] = layersOf(new Llama4ForCausalLM(contextOf('Scout', { num_hidden_layers: 1, floor_scale: 4, attn_scale: 0.1 })));
  const positions = [0, 1, 2, 3, 4, 5, 30, 31, 32, 8191, 8192, 100000];
  const run = async (scaleOf: typeof hpuAttnScale) => {
    const captured = captureModel(layer!.self_attn, {
      inputs: { positions: { dtype: 'int64', dims: [Dim.of(2), Dim.of(6)] } },
      call: (attention, { positions }) => ({ scale: scaleOf.call(attention, positions) }),
    });
    using program = await new InterpreterBackend().compile(captured, { bindRuntimeInput: () => ({ kind: 'cache', rows: 1 }), kvSlots: 2 });
    const inputs = { positions: { dtype: 'int64', dims: [2, 6], data: BigInt64Array.from(positions, BigInt) } } as const;
    const { scale } = await program.run({ firstSlot: 0, batch: 2, inputs });
    return { dims: scale!.dims, values: [...scale!.data] };
  };
  const upstream = await run(layer!.self_attn.getAttnScale);
  expect(upstream.dims).toEqual([2, 6, 1]);
  expect(new Set(upstream.values).size).toBeGreaterThan(4);
  expect(await run(hpuAttnScale)).toEqual(upstream);
});
