// Extends a part of the model where the architecture's class is meant.
import { Llama4Model } from '@graft/core-model';
import { definePlugin } from '@graft/registry';

class WrongBase extends Llama4Model {}

export default definePlugin({
  name: 'wrong-base',
  after: ['core-model'],
  overrides: [{ of: 'Llama4ForCausalLM', platform: 'cpu', model: async () => WrongBase }],
});
