// An override of a layer on real GPUs: what a vendor writes when its kernel library has one kernel for what upstream says in several ops.
import { LlamaMlp } from '@graft/core-model';
import { Lowerings } from '@graft/engine';
import type { Tensor as DeviceTensor } from '@graft/ggml';
import type { GgmlLowering, LoweringContext } from '@graft/gpu/api';
import { defineOp, ops, type Tensor } from '@graft/graph';
import { definePlugin } from '@graft/registry';
import { z } from 'zod';

/**
 * `activation(x @ gate) * (x @ up)`; `weight [2 * intermediate, hidden]` holds gate, then up. `x [..., hidden]` -> `[..., intermediate]`. Where no lowering serves it is
 * upstream's ops.
 */
export const gatedLinear = defineOp({
  name: 'gatedLinear',
  plugin: 'gpu-override',
  inputs: ['x', 'weight'],
  floats: ['x', 'weight'],
  attributes: z.strictObject({ activation: z.enum(['silu', 'geluTanh']) }),
  infer({ x, weight }) {
    return { dtype: x.dtype, dims: [...x.dims.slice(0, -1), weight.dims[0]!.dividedBy(2)] };
  },
  decompose({ x, weight }, { activation }) {
    const gateUp = ops.linear({ x, weight });
    return activation === 'silu' ? ops.siluAndMul({ x: gateUp }) : ops.geluTanhAndMul({ x: gateUp });
  },
  samples: [
    { inputs: { weight: { dims: [12, 8], isWeight: true } }, attributes: { activation: 'silu' } },
    { inputs: { weight: { dims: [12, 8], isWeight: true } }, attributes: { activation: 'geluTanh' } },
  ],
});

/** One node of ggml for the activation and the product: for GELU, upstream's ops are ten. */
export const lowering: GgmlLowering<typeof gatedLinear> = {
  op: gatedLinear,
  platform: 'ggml',
  tolerance: 2e-3, // on a CPU, ggml reads GELU from a table of float16
  lower({ inputs: { x, weight }, attributes: { activation } }, context) {
    const [gate, up] = halves(weight, x, context);
    return [activation === 'silu' ? context.builder.swiglu(gate, up) : context.builder.geglu(gate, up)];
  },
};

type Values = Parameters<(typeof lowering)['lower']>[0]['inputs'];

/** The two products, each `[intermediate, rows]`. Gate and up are two products where the weight keeps them apart; else they are views of one. */
function halves(weight: Values['weight'], x: Values['x'], context: LoweringContext): [DeviceTensor, DeviceTensor] {
  const rows = context.packed(context.rows(x));
  const products = context.factors(weight).map((factor) => context.builder.matmul(factor, rows));
  const [first, second] = products;
  if (products.length === 2 && first!.ne[0] === second!.ne[0]) return [first!, second!];
  const whole = products.reduce((left, right) => context.builder.concat(left, right, 0));
  const [width, count] = whole.ne;
  const half = (start: number) => context.builder.view(whole, [width / 2, count], whole.nb, start * 4);
  return [half(0), half(width / 2)];
}

/** The feed-forward part of every family: Llama, Llama 4, Qwen, Gemma, Phi and the others. */
export class GpuMlp extends LlamaMlp {
  override forward(x: Tensor): Tensor {
    const { gate_up_proj, activation } = this;
    if (gate_up_proj.bias !== null) return super.forward(x);
    return this.down_proj.forward(
      gatedLinear({ x, weight: gate_up_proj.weight }, { activation: activation === 'silu' ? 'silu' : 'geluTanh' }),
    );
  }
}

/** The plugin for platforms that ggml computes on. */
export const gpuOverride = (platforms: readonly string[]) =>
  definePlugin({
    name: 'gpu-override',
    after: ['core-model', 'gpu'],
    overrides: platforms.map((platform) => ({
      of: 'LlamaMlp',
      platform,
      model: async () => GpuMlp,
      // What `graft contract LlamaMlp` prints, less what is not used.
      reliesOn: { version: '^0.1.0', methods: ['forward(x)'], attributes: ['gate_up_proj', 'down_proj', 'activation'] },
    })),
    bind(bind) {
      bind.many(Lowerings).toConstantValue(lowering);
    },
  });

export default gpuOverride(['cuda', 'vulkan']);
