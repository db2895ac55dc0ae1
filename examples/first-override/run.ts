// Runs a tiny Llama 4 (random weights) as upstream has it and with the override, and prints what differs. See README.md for the command.
import { fileURLToPath } from 'node:url';
import { LlmEngine } from '@graft/engine';

const app = fileURLToPath(new URL('.', import.meta.url)); // its package.json lists the plugins
const model = fileURLToPath(new URL('../../tests/parity/cases/dense-tiny', import.meta.url));
const prompt = { tokenIds: [3, 141, 59, 26, 53, 58, 97] };

async function run(title: string, plugins: string[]): Promise<void> {
  const engine = await LlmEngine.start({ model, app, plugins, platform: 'cpu' });
  const ids: number[] = [];
  let largest = 0;
  const onLogits = (_position: number, logits: Float32Array): void => {
    for (const logit of logits) largest = Math.max(largest, Math.abs(logit));
  };
  for await (const { tokenIds } of engine.generate({ prompt, sampling: { temperature: 0, maxTokens: 8 } }, { observer: { onLogits } })) {
    ids.push(...tokenIds);
  }
  console.log(`${title}\n${engine.info.explanation}\n  token ids: ${ids.join(' ')}\n  largest logit: ${largest.toFixed(4)}\n`);
  await engine.close();
}

await run('Upstream', ['@graft/cpu']);
await run('With the override', ['@graft/cpu', './plugin.ts']);
