// Renames a parameter before weights are read: no checkpoint has a tensor of that name.
import { Llama4ForCausalLM } from '@graft/core-model';
import { definePlugin, InitHook } from '@graft/registry';

class RenamedParameter extends Llama4ForCausalLM {
  @InitHook()
  renameNorm(): void {
    const { norm, ...others } = this.model;
    for (const name of Object.keys(this.model)) Reflect.deleteProperty(this.model, name);
    Object.assign(this.model, others, { final_norm: norm });
  }
}

export default definePlugin({
  name: 'renamed-parameter',
  after: ['core-model'],
  overrides: [{ of: 'Llama4ForCausalLM', platform: 'cpu', model: async () => RenamedParameter }],
});
