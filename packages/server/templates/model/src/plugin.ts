import { definePlugin } from '@graft/registry';

// Imported only when a model needs them.
const family = () => import('./family.ts').then((m) => m.family);
const model = () => import('./model.ts').then((m) => m.MyModelForCausalLM);
const attention = () => import('./model.ts').then((m) => m.MyModelAttention);
const decoderLayer = () => import('./model.ts').then((m) => m.MyModelDecoderLayer);
const manifest = () => import('./manifest.ts').then((m) => m.manifest);
const splitNorm = () => import('./split-norm.ts').then((m) => m.SplitNorm);

export default definePlugin({
  name: 'my-model',
  after: ['core-model'],
  models: [{ architecture: 'MyModelForCausalLM', model, family }],
  // The parts that others may override by name.
  layers: { MyModelAttention: attention, MyModelDecoderLayer: decoderLayer },
  // What their classes look like, for the `reliesOn` of those overrides. `npm test` and `npm run build` write it from the sources.
  manifest,
  overrides: [
    {
      of: 'RmsNorm',
      platform: 'cpu',
      within: ['MyModelForCausalLM'],
      model: splitNorm,
      // `npx graft contract RmsNorm` prints all that an override may rely on. Name what this one uses: when upstream changes it, loading fails and says so.
      reliesOn: { version: '^0.1.0', methods: ['forward(x)', 'forwardWithResidual(x, residual)'] },
    },
  ],
});
