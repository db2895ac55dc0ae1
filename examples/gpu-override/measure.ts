// Tokens a second of upstream and of the override, in turns on one device:
//   npm start -- MODEL [cuda | vulkan]
import { LlmEngine } from '@graft/engine';

const [model, platform = 'cuda'] = process.argv.slice(2);
if (model === undefined) throw new Error('usage: npm start -- MODEL [cuda | vulkan]');
const rounds = 5;
const promptTokens = 512;
const answerTokens = 128;

const start = (plugins: string[]): Promise<LlmEngine> =>
  LlmEngine.start({ model, platform, plugins, app: import.meta.dirname, maxSequences: 1, maxModelLength: 1024 });
const engines = { upstream: await start(['@graft/gpu']), override: await start(['@graft/gpu', './plugin.ts']) };
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
