// A plugin of each kind of part, without a mistake. mistakes.test.ts puts one mistake at a time into this text.
import { type Llama4Config, Llama4ForCausalLM, type ModelContext, RmsNorm } from '@graft/core-model';
import { Backend } from '@graft/engine';
import { InterpreterBackend, type Tensor } from '@graft/graph';
import { definePlugin, InitHook, type Patches } from '@graft/registry';

class MyModel extends Llama4ForCausalLM {
  readonly cap: number;

  constructor(context: ModelContext<Llama4Config>) {
    super(context);
    this.cap = Number(context.overrideOptions?.['cap'] ?? 30);
  }

  @InitHook()
  prepare(): void {}

  override computeLogits(hiddenStates: Tensor): Tensor {
    return super.computeLogits(hiddenStates).div(this.cap).tanh().mul(this.cap);
  }
}

class MyNorm extends RmsNorm {
  override forwardWithResidual(x: Tensor, residual: Tensor | null): [Tensor, Tensor] {
    const sum = residual === null ? x : x.add(residual);
    return [this.forward(sum), sum];
  }
}

function forward(this: RmsNorm, x: Tensor): Tensor {
  return RmsNorm.prototype.forward.call(this, x);
}

export default definePlugin({
  name: 'mine',
  graft: '^0.1.0',
  after: ['core-model'],
  platforms: [{ name: 'npu', modes: ['full'], detect: () => 'emulated' }],
  overrides: [
    { of: 'Llama4ForCausalLM', platform: 'cpu', model: async () => MyModel, reliesOn: { methods: ['computeLogits(hiddenStates)'] } },
    { of: 'RmsNorm', platform: 'cpu', priority: 1, model: async () => MyNorm },
  ],
  hooks: [
    {
      of: 'RmsNorm',
      platform: 'cpu',
      phase: 'init',
      run: function faster(norm: RmsNorm, _context: ModelContext, patches: Patches) {
        patches.replaceMethod(norm, 'forward', forward);
      },
    },
  ],
  bind(bind) {
    bind(Backend).to(InterpreterBackend);
  },
});
