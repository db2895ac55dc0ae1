import { type LanguageModelV3, type LanguageModelV3StreamPart, NoSuchModelError, type ProviderV3 } from '@ai-sdk/provider';
import type { Engine, SamplingParams, TokenDelta } from '@graft/engine';
import { readCall } from './read-call.ts';

/** For all calls of a model. */
export interface GraftModelOptions {
  /** Sampling that the AI SDK has no option for. */
  sampling?: Partial<Pick<SamplingParams, 'minP' | 'repetitionPenalty' | 'logitBias' | 'stopTokenIds' | 'ignoreEos'>>;
  /** Variables of the chat template, such as `enable_thinking`. */
  variables?: Record<string, unknown>;
}

export interface GraftProvider extends ProviderV3 {
  /** @param modelId Default: the model that the engine serves, the only one. */
  (modelId?: string, options?: GraftModelOptions): LanguageModelV3;
  languageModel(modelId?: string, options?: GraftModelOptions): LanguageModelV3;
}

/**
 * A provider of the AI SDK (specification v3, which `ai` 6 and 7 take) over an engine in this process.
 * @param engine an `LlmEngine`, or the worker of `startEngineWorker`. The caller closes it.
 */
export function createGraft(engine: Engine): GraftProvider {
  const served = engine.info.model;
  const languageModel = (modelId = served, options: GraftModelOptions = {}): LanguageModelV3 => {
    if (modelId === served) return graftModel(engine, options);
    throw new NoSuchModelError({ modelId, modelType: 'languageModel', message: `The engine serves "${served}", not "${modelId}".` });
  };
  const refuse = (modelType: 'embeddingModel' | 'imageModel') => (modelId: string) => {
    throw new NoSuchModelError({ modelId, modelType, message: `The engine serves the language model "${served}" only.` });
  };
  const others = { embeddingModel: refuse('embeddingModel'), imageModel: refuse('imageModel') };
  return Object.assign(languageModel.bind(null), { specificationVersion: 'v3' as const, languageModel, ...others });
}

function graftModel(engine: Engine, options: GraftModelOptions): LanguageModelV3 {
  const modelId = engine.info.model;
  const begin = (call: Parameters<LanguageModelV3['doGenerate']>[0]) => {
    const { request, warnings } = readCall(call, options);
    const { abortSignal } = call;
    const deltas = engine.generate(request, abortSignal === undefined ? {} : { signal: abortSignal });
    return { deltas, warnings, response: { modelId, timestamp: new Date() } };
  };
  return {
    specificationVersion: 'v3',
    provider: 'graft',
    modelId,
    supportedUrls: {}, // so the AI SDK downloads images itself
    async doGenerate(call) {
      const { deltas, ...about } = begin(call);
      let text = '';
      for await (const delta of deltas) {
        text += delta.text;
        if (delta.finishReason !== null) return { content: text === '' ? [] : [{ type: 'text', text }], ...endOf(delta), ...about };
      }
      throw new Error('The answer ended without a finish reason.'); // an engine never does this
    },
    async doStream(call) {
      const { deltas, warnings, response } = begin(call);
      const parts = textParts(deltas, call.abortSignal);
      const first = await parts.next(); // a refused request rejects the call
      return {
        stream: new ReadableStream<LanguageModelV3StreamPart>({
          start(controller) {
            controller.enqueue({ type: 'stream-start', warnings });
            controller.enqueue({ type: 'response-metadata', ...response });
            if (!first.done) controller.enqueue(first.value);
          },
          async pull(controller) {
            const { done, value } = await parts.next();
            if (done) controller.close();
            else controller.enqueue(value);
          },
          cancel: async () => void (await parts.return()),
        }),
      };
    },
  };
}

/** The stream's parts from the text's start. An error before the first delta is thrown, a later one is a part; an abort is always thrown. */
async function* textParts(
  deltas: AsyncIterable<TokenDelta>,
  signal: AbortSignal | undefined,
): AsyncGenerator<LanguageModelV3StreamPart, void, void> {
  const id = 'text';
  let begun = false;
  try {
    for await (const delta of deltas) {
      if (!begun) yield { type: 'text-start', id };
      begun = true;
      if (delta.text !== '') yield { type: 'text-delta', id, delta: delta.text };
      if (delta.finishReason === null) continue;
      yield { type: 'text-end', id };
      yield { type: 'finish', ...endOf(delta) };
    }
  } catch (error) {
    if (!begun || signal?.aborted) throw error;
    yield { type: 'error', error };
  }
}

function endOf({ finishReason, usage: { promptTokens, completionTokens } }: TokenDelta) {
  const uncounted = undefined;
  return {
    finishReason: { unified: finishReason!, raw: finishReason! },
    usage: {
      inputTokens: { total: promptTokens, noCache: promptTokens, cacheRead: uncounted, cacheWrite: uncounted },
      outputTokens: { total: completionTokens, text: completionTokens, reasoning: uncounted },
    },
  };
}
