import { Attention, type AttentionOptions } from '@graft/core-model';
import { definePlugin, type Plugin } from '@graft/registry';

/** Sees the last 6 tokens. */
class WindowedAttention extends Attention {
  constructor(options: AttentionOptions) {
    super({ ...options, window: 6 });
  }
}

/** Gives every full attention of a model a window of 6 tokens. */
export const windowPlugin = (platform: string): Plugin =>
  definePlugin({
    name: 'windows',
    after: ['core-model'],
    overrides: [{ of: 'Attention', platform, model: async () => WindowedAttention }],
  });
