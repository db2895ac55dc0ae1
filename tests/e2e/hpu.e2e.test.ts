// The real model on the emulated Gaudi, as `npm start -- --platform hpu` serves it.
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import OpenAI from 'openai';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { type ServerProcess, startServer } from './server-process.ts';

const sizes = ['--max-sequences', '2', '--max-model-length', '256', '--prefill-tokens', '64'];
let cacheDirectory: string;
beforeAll(() => {
  cacheDirectory = mkdtempSync(join(tmpdir(), 'graft-e2e-'));
});
afterAll(() => rmSync(cacheDirectory, { recursive: true }));

interface Visit {
  health: Awaited<ReturnType<ServerProcess['health']>>;
  /** The tokens of two answers, by their text, as log-probabilities have them. */
  tokens: string[][];
  seconds: number;
}

async function visit(...flags: string[]): Promise<Visit> {
  const started = performance.now();
  const server = await startServer(...sizes, ...flags);
  const seconds = (performance.now() - started) / 1000;
  try {
    const client = new OpenAI({ baseURL: `${server.url}/v1`, apiKey: 'none is asked', maxRetries: 0 });
    const model = (await client.models.list()).data[0]!.id;
    const ask = async (content: string) => {
      const messages = [{ role: 'user' as const, content }];
      const answer = await client.chat.completions.create({ model, messages, temperature: 0, max_tokens: 24, logprobs: true });
      return answer.choices[0]!.logprobs!.content!.map(({ token }) => token);
    };
    const tokens = await Promise.all(['What is the capital of France?', 'Write a sentence about the sea.'].map(ask));
    return { health: await server.health(), tokens, seconds };
  } finally {
    expect(await server.stop()).toBe(0);
  }
}

test('the second start with --platform hpu captures and optimises nothing, and both answer with the ids of cpu in float32', async () => {
  const first = await visit('--platform', 'hpu', '--cache-directory', cacheDirectory);
  const second = await visit('--platform', 'hpu', '--cache-directory', cacheDirectory);
  const cpu = await visit('--platform', 'cpu', '--weights', 'float32');
  console.log(`first start ${first.seconds.toFixed(1)} s, second ${second.seconds.toFixed(1)} s`);
  expect(first.health.engine).toMatchObject({ platform: 'hpu', device: 'emulated', mode: 'compile', modelClass: 'HpuLlama4ForCausalLM' });
  expect(first.health.stats.captures).toBeGreaterThan(0);
  expect(first.health.stats.optimisations).toBeGreaterThan(0);
  expect(second.health.stats).toMatchObject({ captures: 0, optimisations: 0, recompiles: 0, compiles: first.health.stats.compiles });
  expect(first.health.stats.recompiles).toBe(0);
  expect(cpu.tokens[0]!.join('')).toContain('Paris');
  expect([first.tokens, second.tokens]).toEqual([cpu.tokens, cpu.tokens]);
});
