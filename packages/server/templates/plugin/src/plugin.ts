import { definePlugin } from '@graft/registry';

// Imported only when a model needs it.
const splitNorm = () => import('./split-norm.ts').then((m) => m.SplitNorm);

export default definePlugin({
  name: 'my-plugin',
  after: ['core-model'],
  overrides: [
    {
      of: 'RmsNorm',
      platform: 'cpu',
      within: ['Llama4ForCausalLM'],
      model: splitNorm,
      // `npx graft contract RmsNorm` prints all that an override may rely on. Name what this one uses: when upstream changes it, loading fails and says so.
      reliesOn: { version: '^0.1.0', methods: ['forward(x)', 'forwardWithResidual(x, residual)'] },
    },
  ],
});
