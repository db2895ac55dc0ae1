// A contender is a process of its own, so that neither engine's idle threads slow the other's run. It answers one measurement at a time.

/**
 * Serves measurements asked for over IPC.
 * @param {(settings: { model: string, threads: number, contextTokens: number }) => Promise<{ description: string,
 *   generate: (tokenIds: number[], count: number) => AsyncIterable<number>, close: () => Promise<void> }>} start
 *   `generate` yields, greedily and without stopping at an end token, how many tokens each piece brought.
 */
export function serveContender(start) {
  let engine;
  const answers = {
    start: async (settings) => {
      engine = await start(settings);
      return engine.description;
    },
    measure: ({ tokenIds, decodeTokens }) => measure(engine, tokenIds, decodeTokens),
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

/** Time to the first token (the prefill) and the rate of those after it. */
async function measure(engine, tokenIds, decodeTokens) {
  const startMs = performance.now();
  let firstMs = 0;
  let first = 0;
  let last = startMs;
  let tokens = 0;
  for await (const count of engine.generate(tokenIds, decodeTokens + 1)) {
    if (count === 0) continue;
    last = performance.now();
    tokens += count;
    if (firstMs === 0) {
      firstMs = last - startMs;
      first = count;
    }
  }
  if (tokens - first < decodeTokens / 2)
    throw new Error(`asked for ${decodeTokens + 1} tokens, got ${tokens} (${first} in the first piece)`);
  return { prefillMs: firstMs, decodeTokensPerSecond: ((tokens - first) / (last - startMs - firstMs)) * 1000 };
}
