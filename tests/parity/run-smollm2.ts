import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { LlmEngine } from '@graft/engine';
import { z } from 'zod';
import { argmax, logProbability } from './compare.ts';
import type { BackendChoice, CaseReport } from './run-case.ts';

/** A file of greedy continuations by the published implementation, in float32 from the dequantised weights. */
const GreedyFile = z.array(
  z.looseObject({
    prompt: z.string(),
    promptIds: z.array(z.int()),
    greedyIds: z.array(z.int()),
    greedyMargins: z.array(z.number()),
    topIds: z.array(z.array(z.int())),
    topLogprobs: z.array(z.array(z.number())),
  }),
);
const TokensFile = z.array(z.object({ text: z.string(), ids: z.array(z.int()) }));

type Chat = z.output<typeof GreedyFile>[number];

/** The layers that the reference has without rotation in its "nope" form. */
const nopeLayers = [7, 24, 28, 29];
const numLayers = 30;

interface Bar {
  /** Positions with a margin over this must agree. */
  margin: number;
  /** Share of all positions that must agree. */
  share: number;
  /** Largest difference of the log-probability at positions that must agree, and mean over all. */
  largest: number;
  mean: number;
}

const bars: Record<'float32' | 'auto', Bar> = {
  float32: { margin: 0.01, share: 0, largest: 0.01, mean: 0.01 },
  auto: { margin: 0.5, share: 0.95, largest: Number.POSITIVE_INFINITY, mean: 0.05 },
};

interface Position {
  margin: number;
  equal: boolean;
  /** Of the log-probability of the reference's first choice. */
  difference: number;
}

export interface RunSmolLm2 {
  file: string;
  model: string;
  backend: BackendChoice;
  app: string;
  /** Whether the file's layers 7, 24, 28 and 29 are NoPE; by default its name says so. */
  nope?: boolean;
}

/** Runs a file of chats, teacher-forced, all scheduled together: read as a Llama 4 and as the Llama that the file is, in float32 and in the platform's default form. */
export async function runSmolLm2(options: RunSmolLm2): Promise<CaseReport[]> {
  const { file, nope = /nope/i.test(basename(file)) } = options;
  const chats = GreedyFile.parse(JSON.parse(await readFile(file, 'utf8')));
  const reports: CaseReport[] = [];
  for (const architecture of nope ? ['Llama4ForCausalLM'] : ['Llama4ForCausalLM', 'LlamaForCausalLM']) {
    for (const weights of options.backend.weights ?? (['float32', 'auto'] as const)) {
      const engine = await startEngine(options, { architecture, weights, nope, chats });
      try {
        if (weights === 'float32') reports.push(await compareTokens(engine, file, chats));
        const positions = (await Promise.all(chats.map((chat) => runChat(engine, chat)))).flat();
        const name = `${basename(file)} ${architecture} ${options.backend.name} ${weights === 'auto' ? engine.info.weights : weights}`;
        reports.push(judge(name, positions, bars[weights]));
      } finally {
        await engine.close();
      }
    }
  }
  return reports;
}

interface Reading {
  /** What the GGUF, a Llama by its metadata, is read as. */
  architecture: string;
  weights: 'float32' | 'auto';
  nope: boolean;
  chats: readonly Chat[];
}

function startEngine({ model, backend, app }: RunSmolLm2, { architecture, weights, nope, chats }: Reading): Promise<LlmEngine> {
  const noRope = Array.from({ length: numLayers }, (_, layer) => (nope && nopeLayers.includes(layer) ? 0 : 1));
  const longest = Math.max(...chats.map(({ promptIds, greedyIds }) => promptIds.length + greedyIds.length));
  return LlmEngine.start({
    model,
    architecture,
    app,
    plugins: backend.plugins,
    platform: backend.name,
    weights,
    maxSequences: Math.min(chats.length, 16),
    maxModelLength: longest + 1,
    ...(nope && { configOverrides: { no_rope_layers: noRope } }),
  });
}

async function runChat(engine: LlmEngine, { promptIds, greedyIds, greedyMargins, topIds, topLogprobs }: Chat): Promise<Position[]> {
  const positions: Position[] = [];
  const observer = {
    forcedTokenIds: greedyIds,
    onLogits(position: number, logits: Float32Array) {
      const step = position - promptIds.length + 1;
      if (step < 0 || step >= greedyIds.length) return;
      const first = topIds[step]![0]!;
      const difference = Math.abs(logProbability(logits, first) - topLogprobs[step]![0]!);
      positions[step] = { margin: greedyMargins[step]!, equal: argmax(logits) === first, difference };
    },
  };
  const sampling = { temperature: 0, ignoreEos: true, maxTokens: greedyIds.length };
  for await (const _ of engine.generate({ prompt: { tokenIds: promptIds }, sampling }, { observer })) {
    // The observer sees what is compared.
  }
  if (positions.length !== greedyIds.length) throw new Error(`Of ${greedyIds.length} positions ${positions.length} were computed.`);
  return positions;
}

function judge(name: string, positions: readonly Position[], bar: Bar): CaseReport {
  const clear = positions.filter(({ margin }) => margin > bar.margin);
  const clearEqual = clear.filter(({ equal }) => equal).length;
  const share = positions.filter(({ equal }) => equal).length / positions.length;
  const mean = positions.reduce((sum, { difference }) => sum + difference, 0) / positions.length;
  const largest = clear.reduce((max, { difference }) => Math.max(max, difference), 0);
  const passed = clearEqual === clear.length && share >= bar.share && mean <= bar.mean && largest <= bar.largest;
  const line =
    `${passed ? 'ok  ' : 'FAIL'} ${name}: first choice equal at ${(100 * share).toFixed(1)} % of ${positions.length} positions,` +
    ` ${clearEqual} of ${clear.length} with a margin over ${bar.margin}; log-probability differs by ${mean.toFixed(4)} on average, ${largest.toFixed(4)} at most there`;
  return { passed, line };
}

/** The prompts of the file, and the awkward texts beside it, give the reference's ids. */
async function compareTokens(engine: LlmEngine, file: string, chats: readonly Chat[]): Promise<CaseReport> {
  const beside = join(dirname(file), 'tokens.json');
  const texts = existsSync(beside) ? TokensFile.parse(JSON.parse(await readFile(beside, 'utf8'))) : [];
  const expected = [...texts, ...chats.map(({ prompt, promptIds }) => ({ text: prompt, ids: promptIds }))];
  const wrong: string[] = [];
  for (const { text, ids } of expected)
    if ((await engine.tokenize(text)).join() !== ids.join()) wrong.push(JSON.stringify(text.slice(0, 40)));
  const passed = wrong.length === 0;
  const verdict = passed ? `the ids of ${expected.length} texts equal` : `the ids of ${wrong.join(', ')} differ`;
  return { passed, line: `${passed ? 'ok  ' : 'FAIL'} ${basename(file)} tokenizer: ${verdict}` };
}
