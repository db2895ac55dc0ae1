// Tokens a second of upstream and of the override, in turns on one device:
//   npm start -- MODEL [cuda | vulkan | cpu] [tokens of the prompt]
// On `cpu`, ggml is the backend.
import { LlmEngine } from '@graft/engine';
import type { Plugin } from '@graft/registry';
import { gpuOverride } from './plugin.ts';

const [model, platform = 'cuda', tokens = '512'] = process.argv.slice(2);
if (model === undefined) throw new Error('usage: npm start -- MODEL [cuda | vulkan | cpu] [tokens of the prompt]');
const rounds = 5;
const promptTokens = Number(tokens);
const answerTokens = Math.ceil(promptTokens / 4);

const ofPlatform = platform === 'cpu' ? { threads: 1, platformOptions: { backend: 'ggml' } } : {};
const start = (pluginsInCode: Plugin[]): Promise<LlmEngine> =>
  LlmEngine.start(
    {
      model,
      platform,
      ...ofPlatform,
      plugins: ['@graft/cpu', '@graft/gpu'],
      app: import.meta.dirname,
      maxSequences: 1,
      maxModelLength: 1024,
    },
    { pluginsInCode },
  );
const engines = { upstream: await start([]), override: await start([gpuOverride([platform])]) };
const best: Record<string, { prefill: number; decode: number }> = {};
for (let round = 0; round < rounds; round++) {
  for (const [name, engine] of Object.entries(engines)) {
    const tokenIds = Array.from({ length: promptTokens }, (_, i) => (i * 7919 + round) % engine.info.vocabSize);
    const times = [performance.now()];
    const sampling = { temperature: 0, ignoreEos: true, maxTokens: answerTokens };
    for await (const _ of engine.generate({ prompt: { tokenIds }, sampling })) times.push(performance.now());
    const [begun, first, last] = [times[0]!, times[1]!, times.at(-1)!];
    const rates = { prefill: (1000 * promptTokens) / (first - begun), decode: (1000 * (answerTokens - 1)) / (last - first) };
    const known = best[name] ?? rates;
    best[name] = { prefill: Math.max(known.prefill, rates.prefill), decode: Math.max(known.decode, rates.decode) };
  }
}
console.log(`${engines.upstream.info.platform}: ${engines.upstream.info.platformReason}`);
console.table(best);
for (const engine of Object.values(engines)) await engine.close();
