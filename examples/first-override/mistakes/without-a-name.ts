// The compiler finds it too; a plugin in JavaScript has only the error.
import { definePlugin } from '@graft/registry';
import { FirstOverride } from '../plugin.ts';

// @ts-expect-error: "name" is missing
export default definePlugin({
  after: ['core-model'],
  overrides: [{ of: 'Llama4ForCausalLM', platform: 'cpu', model: async () => FirstOverride }],
});
