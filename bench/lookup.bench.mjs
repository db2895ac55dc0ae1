// What prompt lookup brings: one engine without it and one with it answer the same requests in turn. The answers must be equal.
// Counts the process's CPU time, which other work on the machine changes little.
//   npm run bench -- lookup [--model FILE.gguf] [--backend ggml] [--threads 1] [--tokens 4] [--answer 200] [--rounds 3]
import { dirname } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { startEngineWorker } from '@graft/engine';
import { defaultModel, readAs } from './default-model.mjs';

const code = `function total(items) {
  let sum = 0;
  for (const item of items) {
    if (item.count < 0) throw new RangeError('the count is negative');
    sum += item.price * item.count;
  }
  return sum;
}

function average(items) {
  if (items.length === 0) return 0;
  return total(items) / items.length;
}

function largest(items) {
  let best = items[0];
  for (const item of items) {
    if (item.price * item.count > best.price * best.count) best = item;
  }
  return best;
}`;
const asked = [
  ['code to change', `Rename the variable "sum" to "total" in this code, and print the whole code:\n\n${code}`],
  [
    'text to correct',
    'Correct the spelling and repeat the text: "The quick brown fox jumps over the layz dog. The dog sleeps, and the quick brown fox jumps again."',
  ],
  ['a story', 'Tell a story about a lighthouse keeper.'],
  ['a question', 'Why is the sky blue?'],
  ['a question, sampled', 'Why is the sky blue?', { temperature: 1, seed: 1 }],
  ['code to change, sampled', `Print this code with a comment in each line:\n\n${code}`, { temperature: 0.5, seed: 1 }],
];

export async function main(args) {
  const options = {
    model: { type: 'string' },
    backend: { type: 'string', default: 'ggml' },
    threads: { type: 'string', default: '1' },
    tokens: { type: 'string', default: '4' },
    answer: { type: 'string', default: '200' },
    rounds: { type: 'string', default: '3' },
  };
  const { values } = parseArgs({ args, options });
  const model = values.model ?? defaultModel();
  const start = (numSpeculativeTokens) =>
    startEngineWorker({
      model,
      ...readAs(model),
      app: dirname(dirname(fileURLToPath(import.meta.url))),
      plugins: ['@graft/cpu', '@graft/gpu'],
      platform: 'cpu',
      platformOptions: { backend: values.backend },
      threads: Number(values.threads),
      maxSequences: 1,
      numSpeculativeTokens,
    });
  const engines = [await start(0), await start(Number(values.tokens))];
  try {
    const lines = [];
    const sizes = { maxTokens: Number(values.answer), rounds: Number(values.rounds) };
    for (const one of asked) lines.push(await compare(engines, one, sizes));
    return [
      `${engines[0].info.model} on ${values.backend}, ${values.threads} threads, up to ${values.answer} tokens, median of ${values.rounds}`,
      '',
      '| request | tokens | CPU ms a token without | with | ratio | proposed | chosen | ids equal |',
      '|---|---|---|---|---|---|---|---|',
      ...lines,
    ];
  } finally {
    for (const engine of engines) await engine.close();
  }
}

async function compare(engines, [name, text, sampling = { temperature: 0 }], { maxTokens, rounds }) {
  const before = await engines[1].stats();
  const times = [[], []];
  const ids = [[], []];
  for (let round = 0; round < rounds; round++)
    for (const [i, engine] of engines.entries()) {
      ids[i] = [];
      let first = null; // the prompt is left out
      for await (const { tokenIds } of engine.generate({
        prompt: { messages: [{ role: 'user', content: text }] },
        sampling: { ...sampling, maxTokens },
      })) {
        first ??= process.cpuUsage();
        ids[i].push(...tokenIds);
      }
      const { user, system } = process.cpuUsage(first);
      times[i].push((user + system) / 1000 / Math.max(1, ids[i].length - 1));
    }
  const after = await engines[1].stats();
  const [without, with_] = times.map((all) => all.sort((a, b) => a - b)[all.length >> 1]);
  const [proposed, chosen] = ['numDraftTokens', 'numAcceptedTokens'].map((key) => Math.round((after[key] - before[key]) / rounds));
  const equal = String(ids[0]) === String(ids[1]) ? 'yes' : 'NO';
  return `| ${name} | ${ids[0].length} | ${without.toFixed(2)} | ${with_.toFixed(2)} | ${(without / with_).toFixed(2)} | ${proposed} | ${chosen} | ${equal} |`;
}
