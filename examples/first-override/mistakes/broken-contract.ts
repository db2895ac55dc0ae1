// Relies on a method and a parameter that upstream does not have (any more).
import { definePlugin } from '@graft/registry';
import { FirstOverride } from '../plugin.ts';

export default definePlugin({
  name: 'broken-contract',
  after: ['core-model'],
  overrides: [
    {
      of: 'Llama4ForCausalLM',
      platform: 'cpu',
      model: async () => FirstOverride,
      reliesOn: { methods: ['computeLogit'], parameters: ['model.final_norm.weight'] },
    },
  ],
});
