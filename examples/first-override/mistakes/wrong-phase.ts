// Reads weights in an init hook, which runs before they are loaded.
import { Llama4ForCausalLM } from '@graft/core-model';
import { definePlugin, InitHook } from '@graft/registry';

class WrongPhase extends Llama4ForCausalLM {
  largestScale = 0;

  @InitHook()
  measureNorm(): void {
    this.largestScale = Math.max(...this.model.norm!.weight.toFloat32());
  }
}

export default definePlugin({
  name: 'wrong-phase',
  after: ['core-model'],
  overrides: [{ of: 'Llama4ForCausalLM', platform: 'cpu', model: async () => WrongPhase }],
});
