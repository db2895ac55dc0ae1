// What choosing a token costs, for one row of SmolLM2's 49152 logits: the part of a decode step that is JavaScript.
//   npm run bench -- sampler [--rows 300]
import { parseArgs } from 'node:util';
import { argmax, Sampler, SamplerScratch } from '../packages/engine/dist/sampler.js';
import { SamplingParams } from '../packages/engine/dist/sampling-params.js';

const vocabSize = 49_152;
const settings = [
  ['temperature 0', { temperature: 0 }],
  ['temperature 1', {}],
  ['top-k 40', { topK: 40 }],
  ['top-p 0.95, temperature 0.8', { topP: 0.95, temperature: 0.8 }],
  ['temperature 0 with 5 log-probabilities', { temperature: 0, logprobs: 5 }],
];

export async function main(args) {
  const { values } = parseArgs({ args, options: { rows: { type: 'string', default: '300' } } });
  const rows = Number(values.rows);
  const logits = Float32Array.from({ length: vocabSize }, (_, i) => 6 * Math.sin(i * 12.9898) + 3 * Math.sin(i * 78.233));
  const scratch = new SamplerScratch(vocabSize);
  const lines = [['argmax alone', timesOf(rows, () => argmax(logits))]];
  for (const [name, params] of settings) {
    const sampler = new Sampler(SamplingParams.parse({ seed: 1, ...params }), { vocabSize, scratch });
    lines.push([name, timesOf(rows, () => sampler.sample(logits))]);
  }
  return [
    `${vocabSize} logits, ${rows} rows each`,
    '',
    '| setting | ms a token, median (least) |',
    '|---|---|',
    ...lines.map(([name, [median, least]]) => `| ${name} | ${median} (${least}) |`),
  ];
}

function timesOf(rows, work) {
  for (let i = 0; i < 50; i++) work();
  const times = Array.from({ length: rows }, () => {
    const start = performance.now();
    work();
    return performance.now() - start;
  }).sort((a, b) => a - b);
  return [times[rows >> 1], times[0]].map((ms) => ms.toFixed(3));
}
