import { definePlugin } from '@graft/registry';

/** A hook that changes nothing, on top of whatever serves Llama 4 on hpu. */
export default definePlugin({
  name: 'idle',
  after: ['core-model'],
  hooks: [{ of: 'Llama4ForCausalLM', platform: 'hpu', phase: 'init', run: function unify() {} }],
});
