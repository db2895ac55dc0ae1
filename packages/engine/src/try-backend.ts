import { type BackendCandidate, type BackendChoice, chooseBackend } from './backend-choice.ts';
import { createServices } from './default-services.ts';
import { type LoadOptions, loadModel, modeOf } from './load-model.ts';
import type { ModelRunner } from './runner/model-runner.ts';
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
  return await chooseBackend(candidates, config.platformOptions, subject, (candidate) => tryBackend(options, candidate));
}

/** Tokens of a prompt and of an answer: first a few, then more if that takes no longer than `longestMs`. */
const [few, more] = [
  { prompt: 16, answer: 2 },
  { prompt: 128, answer: 16 },
];
const longestMs = 2000;

/** Loads the model on one backend, alone and for text only, and times a prompt and an answer. */
async function tryBackend(options: MeasureOptions, candidate: BackendCandidate) {
  const { plugins, platform, onProgress, signal } = options;
  const config = { ...options.config, maxSequences: 1, images: false, numSpeculativeTokens: 0 };
  await using container = createServices(plugins, platform, config, { candidate, reason: 'tried' });
  const report: LoadOptions['onProgress'] = ({ message }) =>
    onProgress?.({ step: 'measure', message: `${candidate.name}: ${message}`, fraction: null });
  const { runner, context } = await loadModel({ ...options, container, config, onProgress: report });
  const { maxModelLength, config: model } = context;
  const token = (i: number): number => (i * 7919 + 13) % model.vocabSize;
  const run = async (first: number, end: number): Promise<void> => {
    const tokenIds = Array.from({ length: end - first }, (_, i) => token(first + i));
    await runner.run({ firstSlot: 0, rows: [{ tokenIds, computed: first }], logits: 'last', ...(signal !== undefined && { signal }) });
  };
  const time = async ({ prompt, answer }: typeof few) => {
    const answered = Math.min(answer, maxModelLength - 1);
    const read = Math.min(prompt, maxModelLength - answered);
    const begun = performance.now();
    for (const [first, end] of pieces(runner, read)) await run(first, end);
    const between = performance.now();
    for (let i = read; i < read + answered; i++) await run(i, i + 1);
    return { prefill: (between - begun) / 1000 / read, decode: (performance.now() - between) / 1000 / answered };
  };
  report({ step: 'measure', message: 'a prompt and an answer', fraction: null });
  await run(0, 1); // reads all weights
  let best = await time(few);
  const deadline = performance.now() + longestMs;
  for (
    let round = 0;
    round < 3 && performance.now() + 1000 * (more.prompt * best.prefill + more.answer * best.decode) < deadline;
    round++
  ) {
    const { prefill, decode } = await time(more);
    best = round === 0 ? { prefill, decode } : { prefill: Math.min(prefill, best.prefill), decode: Math.min(decode, best.decode) };
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
