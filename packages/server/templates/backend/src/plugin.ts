import { float32Policy } from '@graft/core-model';
import { Backend, WeightPolicy } from '@graft/engine';
import { definePlugin } from '@graft/registry';
import { platform } from './platform.ts';

// Imported only when a model needs them.
const backend = () => import('./backend.ts').then((m) => m.MyBackend);
const splitNorm = () => import('./split-norm.ts').then((m) => m.SplitNorm);

export default definePlugin({
  name: 'my-backend',
  after: ['core-model'],
  platforms: [platform],
  overrides: [
    {
      of: 'RmsNorm',
      platform: 'my-backend',
      within: ['Llama4ForCausalLM'],
      model: splitNorm,
      // `npx graft contract RmsNorm` prints all that an override may rely on. Name what this one uses: when upstream changes it, loading fails and says so.
      reliesOn: { version: '^0.1.0', methods: ['forward(x)', 'forwardWithResidual(x, residual)'] },
    },
  ],
  bind(bind) {
    bind(Backend).to(backend);
    bind(WeightPolicy).toConstantValue(float32Policy);
  },
});
