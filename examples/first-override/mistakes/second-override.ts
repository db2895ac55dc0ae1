// A second override of the same architecture on the same platform, and neither says which of the two wins.
import { Llama4ForCausalLM } from '@graft/core-model';
import { definePlugin } from '@graft/registry';

class SecondOverride extends Llama4ForCausalLM {}

export default definePlugin({
  name: 'second-override',
  after: ['core-model'],
  overrides: [{ of: 'Llama4ForCausalLM', platform: 'cpu', model: async () => SecondOverride }],
});
