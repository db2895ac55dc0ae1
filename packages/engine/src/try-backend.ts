import { type BackendCandidate, type BackendChoice, chooseBackend, type TrialSizes } from './backend-choice.ts';
import { createServices } from './default-services.ts';
import { type LoadOptions, loadModel, modeOf } from './load-model.ts';
import type { ModelRunner, RunRow } from './runner/model-runner.ts';
import { Backends } from './tokens.ts';

type MeasureOptions = Omit<LoadOptions, 'container' | 'events'>;

/** The backend for a model on a platform that has several; null where the platform has none to choose from. See `chooseBackend`. */
export async function backendFor(options: MeasureOptions): Promise<BackendChoice | null> {
  const { plugins, platform, config } = options;
  const mode = modeOf(platform, config);
  await using container = createServices(plugins, platform, { mode });
  const candidates = await container.get(Backends);
  if (candidates.length === 0) return null;
  const subject = { platform: platform.platform.name, mode, config };
  return await chooseBackend(candidates, config.platformOptions, subject, (candidate, sizes) => tryBackend(options, candidate, sizes));
}

const longestMs = 2000;
const mostRounds = 4;

/** Loads the model on one backend, alone and for text only, and times a prompt and an answer: the best of some rounds. */
async function tryBackend(options: MeasureOptions, candidate: BackendCandidate, { promptTokens, answerTokens }: TrialSizes) {
  const { plugins, platform, onProgress, signal } = options;
  const config = { ...options.config, maxSequences: 1, images: false };
  await using container = createServices(plugins, platform, config, { candidate, reason: 'tried' });
  const report: LoadOptions['onProgress'] = ({ message }) =>
    onProgress?.({ step: 'measure', message: `${candidate.name}: ${message}`, fraction: null });
  const { runner, context } = await loadModel({ ...options, container, config, onProgress: report });
  const { maxModelLength } = context;
  const { vocabSize } = context.config;
  const tokens = Array.from({ length: Math.min(promptTokens + answerTokens, maxModelLength) }, (_, i) => (i * 7919 + 13) % vocabSize);
  const answer = Math.min(answerTokens, tokens.length - 1);
  const run = (row: RunRow) => runner.run({ firstSlot: 0, rows: [row], logits: 'last', ...(signal !== undefined && { signal }) });
  const best = { prefill: Number.POSITIVE_INFINITY, decode: Number.POSITIVE_INFINITY };
  const started = performance.now();
  for (let round = 0; round < mostRounds && performance.now() - started < longestMs; round++) {
    onProgress?.({ step: 'measure', message: `${candidate.name}: a prompt and an answer`, fraction: round / mostRounds });
    const begun = performance.now();
    for (const [first, end] of pieces(runner, tokens.length - answer)) await run({ tokenIds: tokens.slice(first, end), computed: first });
    const read = performance.now();
    for (let i = tokens.length - answer; i < tokens.length; i++) await run({ tokenIds: [tokens[i]!], computed: i });
    best.prefill = Math.min(best.prefill, (read - begun) / 1000);
    best.decode = Math.min(best.decode, (performance.now() - read) / 1000);
  }
  return best;
}

/** A prompt in the pieces that a runner takes. */
function* pieces({ maxPrefillTokens, kvCache }: ModelRunner, count: number): Generator<[number, number]> {
  for (let first = 0; first < count; ) {
    const end = Math.min(count, first + maxPrefillTokens, first + kvCache.roomAfter(first));
    yield [first, end];
    first = end;
  }
}
