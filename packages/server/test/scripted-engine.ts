import { setTimeout as wait } from 'node:timers/promises';
import { GraftError } from '@graft/common';
import { type Engine, type EngineInfo, type EngineStats, type GenerateRequest, ImageLimits, type TokenDelta } from '@graft/engine';

export interface Script {
  /** The tokens of every answer. */
  tokens?: string[] | ((request: GenerateRequest) => string[]);
  /** Between two tokens. */
  delayMs?: number;
  /** Thrown before the token of this index. */
  failAt?: { index: number; error: Error };
  info?: Partial<EngineInfo>;
  /** The behaviour of a reload. */
  reload?: Engine['reloadWeights'];
}

/**
 * The other side of this package's boundary: an `Engine` that streams a fixed list of tokens and keeps its slots
 * honestly, so that a test can see them freed.
 */
export function scriptedEngine({ tokens = ['Par', 'is', '.'], delayMs = 0, failAt, info = {}, reload = refuseReload }: Script = {}) {
  const seen: GenerateRequest[] = [];
  const stats: EngineStats = {
    running: 0,
    waiting: 0,
    freeSlots: 8,
    promptTokens: 0,
    generationTokens: 0,
    numDrafts: 0,
    numDraftTokens: 0,
    numAcceptedTokens: 0,
    captures: 1,
    compiles: 1,
    recompiles: 0,
    recentRecompiles: [],
    optimisations: 0,
    recipes: 0,
    warmUpSeconds: 0,
    computedTokens: 0,
    paddedTokens: 0,
  };
  const engine: Engine & { seen: GenerateRequest[] } = {
    seen,
    info: { ...scriptedInfo, ...info },
    async *generate(request, { signal } = {}) {
      seen.push(request);
      signal?.throwIfAborted();
      const promptTokens = countPrompt(request);
      if (promptTokens > engine.info.maxModelLength) throw promptTooLong(promptTokens, engine.info.maxModelLength);
      stats.running++;
      stats.freeSlots--;
      try {
        yield* deltas(request, promptTokens, signal);
      } finally {
        stats.running--;
        stats.freeSlots++;
      }
    },
    tokenize: async (text) => [...Buffer.from(text)],
    reloadWeights: reload,
    stats: async () => ({ ...stats }),
    close: async () => undefined,
  };

  async function* deltas(request: GenerateRequest, promptTokens: number, signal?: AbortSignal): AsyncGenerator<TokenDelta, void, void> {
    const script = typeof tokens === 'function' ? tokens(request) : tokens;
    const list = script.slice(0, request.sampling?.maxTokens ?? script.length);
    const startedAt = performance.now();
    for (const [index, text] of list.entries()) {
      if (failAt?.index === index) throw failAt.error;
      await wait(delayMs, undefined, signal === undefined ? {} : { signal }).catch(() => signal?.throwIfAborted());
      const isLast = index === list.length - 1;
      stats.generationTokens++;
      yield {
        text,
        tokenIds: [index],
        ...(request.sampling?.logprobs === undefined ? {} : { logprobs: [logprobOf(text, index, request.sampling.logprobs)] }),
        finishReason: isLast ? (list.length < script.length ? 'length' : 'stop') : null,
        stopReason: null,
        usage: { promptTokens, completionTokens: index + 1 },
        ...(isLast ? { timing: { queuedMs: 0, firstTokenMs: delayMs, totalMs: performance.now() - startedAt } } : {}),
      };
    }
  }
  return engine;
}

const refuseReload: Engine['reloadWeights'] = async () => {
  throw new GraftError({ code: 'GRAFT_ENGINE_CLOSED', what: 'The script has no reload.' });
};

function logprobOf(token: string, tokenId: number, top: number) {
  const list = [
    { tokenId, token, logprob: -0.25 },
    { tokenId: 99, token: 'x', logprob: -2 },
  ];
  return { tokenId, token, logprob: -0.25, top: list.slice(0, top) };
}

function countPrompt({ prompt }: GenerateRequest): number {
  if ('tokenIds' in prompt) return prompt.tokenIds.length;
  if ('text' in prompt) return prompt.text.length;
  return prompt.messages.reduce((sum, { content }) => sum + (typeof content === 'string' ? content.length : 0), 0);
}

function promptTooLong(tokens: number, most: number): GraftError {
  return new GraftError({ code: 'GRAFT_PROMPT_TOO_LONG', what: `The prompt has ${tokens} tokens; the context holds ${most}.` });
}

const scriptedInfo: EngineInfo = {
  model: 'scripted',
  architecture: 'Llama4ForCausalLM',
  modelClass: 'Llama4ForCausalLM',
  platform: 'cpu',
  device: 'device',
  platformReason: 'the fallback, and the only platform loaded',
  mode: 'full',
  backend: null,
  weights: 'float32',
  maxModelLength: 2048,
  maxSequences: 8,
  vocabSize: 256,
  hasChatTemplate: true,
  generationDefaults: { sampling: {}, eosTokenIds: [] },
  readsImages: false,
  imageLimits: ImageLimits.parse({}),
  resolution: {
    version: 2,
    requested: ['Llama4ForCausalLM'],
    architecture: 'Llama4ForCausalLM',
    platform: 'cpu',
    mode: 'full',
    without: [],
    capabilities: {},
    passedOver: [],
    chain: [],
    candidates: [],
    layers: [],
    hooks: [],
  },
  readAs: null,
  explanation: 'Llama4ForCausalLM on platform cpu: Llama4ForCausalLM (core-model), the only candidate.',
  changes: { hooks: [], renames: [], patches: [] },
  plugins: ['core-model', 'cpu'],
  timings: { resolve: 0.01, load: 0.4, compile: 1.2 },
  warmUp: null,
  createdAt: 1_795_478_400,
};
