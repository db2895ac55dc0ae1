// One letter too many in the architecture's name.
import { definePlugin } from '@graft/registry';
import { FirstOverride } from '../plugin.ts';

export default definePlugin({
  name: 'typo-in-the-name',
  after: ['core-model'],
  overrides: [{ of: 'Llama4ForCausalLLM', platform: 'cpu', model: async () => FirstOverride }],
});
