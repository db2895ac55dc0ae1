// What examples/custom-backend (ONNX Runtime Web, WebAssembly) takes beside the cpu platform: start, prompts and tokens after them, in turns.
//   npm run bench -- wasm [--model FILE.gguf] [--rounds 3] [--prompts 65,512] [--tokens 16]
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import cpu from '@graft/cpu';
import { LlmEngine } from '@graft/engine';
import wasm from '../examples/custom-backend/dist/plugin.js';
import { defaultModel, readAs } from './default-model.mjs';

export async function main(args) {
  const { values } = parseArgs({
    args,
    options: {
      model: { type: 'string' },
      rounds: { type: 'string', default: '3' },
      prompts: { type: 'string', default: '65,512' },
      tokens: { type: 'string', default: '16' },
    },
  });
  const model = values.model ?? defaultModel();
  const prompts = values.prompts.split(',').map(Number);
  const cacheDirectory = mkdtempSync(join(tmpdir(), 'graft-wasm-'));
  const runs = { cpu: [], wasm: [] };
  try {
    for (let round = 0; round <= Number(values.rounds); round += 1) {
      for (const platform of Object.keys(runs)) {
        const run = await measure({ model, platform, prompts, tokens: Number(values.tokens), cacheDirectory });
        if (round > 0) runs[platform].push(run); // the first one converts the weights
      }
    }
  } finally {
    rmSync(cacheDirectory, { recursive: true, force: true });
  }
  return [
    `${model} in float32, one thread each, ${values.rounds} rounds in turns; medians, milliseconds by the clock`,
    '',
    `| platform | start | ${prompts.map((count) => `${count} tokens of prompt | a token after them`).join(' | ')} |`,
    `|---|---|${prompts.map(() => '---|---|').join('')}`,
    ...Object.entries(runs).map(([name, all]) => `| ${name} | ${all[0].map((_, i) => median(all.map((run) => run[i]))).join(' | ')} |`),
  ];
}

/** The start, then for each prompt its time and that of a token after it. */
async function measure({ model, platform, prompts, tokens, cacheDirectory }) {
  const start = performance.now();
  const sizes = { threads: 1, maxSequences: 1, maxModelLength: 2048 };
  const config = { model, ...readAs(model), platform, weights: 'float32', ...sizes, cacheDirectory, plugins: [] };
  const engine = await LlmEngine.start(config, { pluginsInCode: [cpu, wasm] });
  const times = [performance.now() - start];
  try {
    for (const count of prompts) {
      const tokenIds = Array.from({ length: count }, (_, i) => 100 + ((37 * i) % 10_000));
      const asked = performance.now();
      let first = 0;
      for await (const _ of engine.generate({
        prompt: { tokenIds },
        sampling: { temperature: 0, ignoreEos: true, maxTokens: tokens + 1 },
      })) {
        if (first === 0) first = performance.now();
      }
      times.push(first - asked, (performance.now() - first) / tokens);
    }
    return times;
  } finally {
    await engine.close();
  }
}

function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[sorted.length >> 1].toFixed(0);
}
