// A contender is a process of its own, so that neither engine's idle threads slow the other's run. It answers one measurement at a time.

/**
 * Serves measurements asked for over IPC.
 * @param {(settings: { model: string, threads: number, contextTokens: number, streams: number }) => Promise<{ description: string,
 *   generate: (tokenIds: number[], count: number, stream?: number) => AsyncIterable<number>, close: () => Promise<void> }>} start
 *   `generate` yields, greedily and without stopping at an end token, how many tokens each piece brought. `stream` numbers those that run at once.
 */
export function serveContender(start) {
  let engine;
  const answers = {
    start: async (settings) => {
      engine = await start(settings);
      return engine.description;
    },
    measure: (asked) => measure(engine, asked),
    measureStreams: (asked) => measureStreams(engine, asked),
    peakMegabytes: () => process.resourceUsage().maxRSS / 1024,
    close: () => engine?.close(),
  };
  process.on('message', async ({ call, argument }) => {
    try {
      process.send({ result: (await answers[call](argument)) ?? null });
    } catch (error) {
      process.send({ error: error.stack });
    }
    if (call === 'close') process.disconnect();
  });
}

export const threadsText = (threads) => `${threads} ${threads === 1 ? 'thread' : 'threads'}`;

/** Milliseconds by the clock, or of the processor by this process. */
function nowMs(clock) {
  if (clock === 'wall') return performance.now();
  const { user, system } = process.cpuUsage();
  return (user + system) / 1000;
}

/** Time to the first token (the prefill) and the rate of those after it. */
async function measure(engine, { tokenIds, decodeTokens, clock }) {
  const startMs = nowMs(clock);
  let firstMs = null;
  let first = 0;
  let last = startMs;
  let tokens = 0;
  for await (const count of engine.generate(tokenIds, decodeTokens + 1)) {
    if (count === 0) continue;
    last = nowMs(clock);
    tokens += count;
    if (firstMs === null) {
      firstMs = last - startMs;
      first = count;
    }
  }
  if (tokens - first < decodeTokens / 2)
    throw new Error(`asked for ${decodeTokens + 1} tokens, got ${tokens} (${first} in the first piece)`);
  return { prefillMs: firstMs, decodeTokensPerSecond: ((tokens - first) / (last - startMs - firstMs)) * 1000 };
}

/** Tokens a second of all streams together, prompts included in the time. */
async function measureStreams(engine, { prompts, decodeTokens, clock }) {
  const startMs = nowMs(clock);
  let tokens = 0;
  const run = async (tokenIds, stream) => {
    for await (const count of engine.generate(tokenIds, decodeTokens, stream)) tokens += count;
  };
  await Promise.all(prompts.map(run));
  return (tokens / (nowMs(clock) - startMs)) * 1000;
}
