import { createGraft, type GraftProvider } from '@graft/ai-sdk-provider';
import { LlmEngine } from '@graft/engine';
import {
  generateObject,
  generateText,
  jsonSchema,
  NoObjectGeneratedError,
  NoSuchModelError,
  Output,
  streamText,
  tool,
  type Warning,
} from 'ai';
import { beforeAll, describe, expect, test } from 'vitest';
import { expectIdle, folderWithTokenizer } from '../packages/engine/src/engine.fixture.ts';

Object.assign(globalThis, { AI_SDK_LOG_WARNINGS: false });

let engine: LlmEngine;
let graft: GraftProvider;
beforeAll(async () => {
  const config = { plugins: ['@graft/cpu'], servedModelName: 'tiny', maxSequences: 2, threads: 1, maxModelLength: 8192 };
  engine = await LlmEngine.start({ ...config, model: folderWithTokenizer(), configOverrides: { max_position_embeddings: 8192 } });
  graft = createGraft(engine);
  return () => engine.close();
});

const greedy = { temperature: 0, maxOutputTokens: 8, maxRetries: 0 };
const endless = () => graft('tiny', { sampling: { ignoreEos: true } });
const featuresOf = (warnings: readonly Warning[] | undefined) =>
  warnings?.map((warning) => (warning.type === 'other' ? warning.message : warning.feature));

describe('text', () => {
  test('is what the engine answers to the same messages, with its counts', async () => {
    const messages = [{ role: 'user', content: 'hello world' }];
    let expected = '';
    let usage = { promptTokens: 0, completionTokens: 0 };
    for await (const delta of engine.generate({ prompt: { messages }, sampling: { temperature: 0, maxTokens: 8, ignoreEos: true } })) {
      expected += delta.text;
      ({ usage } = delta);
    }
    const answer = await generateText({ ...greedy, model: endless(), prompt: 'hello world' });
    expect(answer.text).toBe(expected);
    expect(answer.text).not.toBe('');
    expect(answer).toMatchObject({ finishReason: 'length', warnings: [], response: { modelId: 'tiny' } });
    expect(answer.usage).toMatchObject({ inputTokens: usage.promptTokens, outputTokens: 8 });
  });

  test('is streamed in pieces that make the same answer', async () => {
    const whole = await generateText({ ...greedy, model: endless(), prompt: 'the' });
    const stream = streamText({ ...greedy, model: endless(), prompt: 'the' });
    const pieces: string[] = [];
    for await (const piece of stream.textStream) pieces.push(piece);
    expect(pieces.length).toBeGreaterThan(1);
    expect(pieces.join('')).toBe(whole.text);
    expect(await stream.finishReason).toBe('length');
    expect(await stream.usage).toEqual(whole.usage);
  });

  test('depends on the sampling options of the call', async () => {
    const ask = async (more: object) => (await generateText({ ...greedy, model: endless(), prompt: 'the', ...more })).text;
    const seeded = { temperature: 1.5, seed: 3, maxOutputTokens: 20 };
    expect(await ask(seeded)).toBe(await ask(seeded));
    expect(await ask({ ...seeded, seed: 4 })).not.toBe(await ask(seeded));
    expect(await ask({ ...seeded, topK: 1 })).toBe(await ask({ maxOutputTokens: 20 }));
    const whole = await ask({ maxOutputTokens: 20 });
    const stopped = await generateText({ ...greedy, model: endless(), prompt: 'the', stopSequences: [whole[3]!] });
    expect(stopped).toMatchObject({ text: whole.slice(0, whole.indexOf(whole[3]!)), finishReason: 'stop' });
  });

  test('gets the whole conversation, with calls and results of tools, in the form of the chat template', async () => {
    const rendered: unknown[] = [];
    const watched = new Proxy(engine, {
      get: (target, key) =>
        key === 'generate'
          ? (...given: Parameters<LlmEngine['generate']>) => {
              rendered.push(given[0].prompt);
              return target.generate(...given);
            }
          : Reflect.get(target, key),
    });
    await generateText({
      ...greedy,
      model: createGraft(watched)(),
      system: 'be kind',
      messages: [
        { role: 'user', content: [{ type: 'text', text: 'hello' }] },
        { role: 'assistant', content: [{ type: 'tool-call', toolCallId: '1', toolName: 'add', input: { a: 1 } }] },
        { role: 'tool', content: [{ type: 'tool-result', toolCallId: '1', toolName: 'add', output: { type: 'json', value: { sum: 2 } } }] },
      ],
    });
    expect(rendered).toEqual([
      {
        messages: [
          { role: 'system', content: 'be kind' },
          { role: 'user', content: 'hello' },
          { role: 'assistant', content: '', tool_calls: [{ id: '1', type: 'function', function: { name: 'add', arguments: { a: 1 } } }] },
          { role: 'tool', tool_call_id: '1', name: 'add', content: '{"sum":2}' },
        ],
      },
    ]);
  });
});

describe('an abort', () => {
  const long = { ...greedy, maxOutputTokens: 8000 };

  test('ends an answer that runs, and frees its slot', async () => {
    const abort = new AbortController();
    const answer = generateText({ ...long, model: endless(), prompt: 'hello', abortSignal: abort.signal });
    answer.catch(() => undefined);
    await expect.poll(() => engine.stats()).toMatchObject({ running: 1 });
    abort.abort();
    await expect(answer).rejects.toThrow(/abort/i);
    await expectIdle(engine);
  });

  test('ends a stream between two pieces, and frees its slot', async () => {
    const abort = new AbortController();
    const parts: string[] = [];
    const stream = streamText({ ...long, model: endless(), prompt: 'hello', abortSignal: abort.signal });
    for await (const { type } of stream.fullStream) {
      parts.push(type);
      if (type === 'text-delta') abort.abort();
    }
    expect(parts.at(-1)).toBe('abort');
    await expectIdle(engine);
  });

  test('is not needed when the reader of a stream leaves it', async () => {
    const { stream } = await endless().doStream({
      prompt: [{ role: 'user', content: [{ type: 'text', text: 'the' }] }],
      maxOutputTokens: 8000,
    });
    await stream.cancel();
    await expectIdle(engine);
  });
});

describe('what the engine lacks', () => {
  const add = tool({
    description: 'Adds.',
    inputSchema: jsonSchema({ type: 'object', properties: { a: { type: 'number' } } }),
    execute: () => 1,
  });

  test('tools reach the chat template, and a warning says that calls stay text', async () => {
    const auto = await generateText({ ...greedy, model: graft(), prompt: 'hello', tools: { add } });
    expect(featuresOf(auto.warnings)).toEqual(['tools']);
    expect(auto.toolCalls).toEqual([]);
    const call = { ...greedy, model: graft(), prompt: 'hello', tools: { add }, toolChoice: 'required' as const };
    await expect(generateText(call)).rejects.toThrow(/did not contain a tool call/);
    const none = await generateText({ ...greedy, model: graft(), prompt: 'hello', tools: { add }, toolChoice: 'none' });
    expect(none.warnings).toEqual([]);
  });

  test('an object is asked for in the prompt with a warning, and an answer that is not one is an error of the AI SDK', async () => {
    const [one] = await engine.tokenize('1');
    const model = graft('tiny', { sampling: { logitBias: { [one!]: 100 } } }); // "11111111" is JSON
    const object = await generateObject({ ...greedy, model, prompt: 'hello', output: 'no-schema' });
    expect(object.object).toBe(11111111);
    expect(featuresOf(object.warnings)).toEqual(['responseFormat']);
    const plain = await generateText({ ...greedy, model, prompt: 'hello' });
    expect(object.usage.inputTokens!).toBeGreaterThan(plain.usage.inputTokens!);
    const schema = jsonSchema<{ city: string }>({ type: 'object', properties: { city: { type: 'string' } }, required: ['city'] });
    await expect(generateText({ ...greedy, model: endless(), prompt: 'hello', output: Output.object({ schema }) })).rejects.toThrow(
      NoObjectGeneratedError,
    );
  });

  test('files other than images, other models and embeddings are refused', async () => {
    const content = [{ type: 'file' as const, data: new Uint8Array(4), mediaType: 'application/pdf' }];
    await expect(generateText({ ...greedy, model: graft(), messages: [{ role: 'user', content }] })).rejects.toThrow(/application\/pdf/);
    expect(() => graft('other')).toThrow(NoSuchModelError);
    expect(() => graft.embeddingModel('tiny')).toThrow(/"tiny" only/);
  });

  test('an error of the engine rejects the answer, and ends a stream', async () => {
    const prompt = 'x'.repeat(9000);
    await expect(generateText({ ...greedy, model: graft(), prompt })).rejects.toThrow(/The prompt has/);
    const errors: unknown[] = [];
    const stream = streamText({ ...greedy, model: graft(), prompt, onError: ({ error }) => void errors.push(error) });
    await stream.consumeStream();
    expect(errors).toMatchObject([{ code: 'GRAFT_PROMPT_TOO_LONG' }]);
  });
});
