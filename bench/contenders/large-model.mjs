// One start with a large model, in a process of its own: `node large-model.mjs MODEL CACHE WEIGHTS`. Prints a line of JSON once it has answered, and waits to
// be ended.
import { LlmEngine } from '@graft/engine';

const [, , model, cacheDirectory, weights] = process.argv;
const start = performance.now();
let reported = 0;
const engine = await LlmEngine.start(
  { model, platform: 'cpu', plugins: ['@graft/cpu'], cacheDirectory, weights, maxModelLength: 512, maxSequences: 1 },
  { onProgress: () => (reported += 1) },
);
const startSeconds = (performance.now() - start) / 1000;
const tokenIds = Array.from({ length: 128 }, (_, i) => (i * 7919) % 100_000);
const asked = performance.now();
let first = 0;
let tokens = 0;
for await (const _ of engine.generate({ prompt: { tokenIds }, sampling: { temperature: 0, ignoreEos: true, maxTokens: 16 } })) {
  if (first === 0) first = performance.now();
  tokens += 1;
}
const decodeSeconds = (performance.now() - first) / 1000;
console.log(
  JSON.stringify({ startSeconds, reported, firstTokenSeconds: (first - asked) / 1000, tokensPerSecond: (tokens - 1) / decodeSeconds }),
);
process.stdin.on('end', () => engine.close().then(() => process.exit(0))).resume();
