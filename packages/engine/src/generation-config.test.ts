import { mkdtemp, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Checkpoint } from '@graft/core-model';
import { expect, onTestFinished, test } from 'vitest';
import { readGenerationDefaults } from './generation-config.ts';

async function folderWith(file: string | null): Promise<string> {
  const path = await mkdtemp(join(tmpdir(), 'graft-generation-config-'));
  onTestFinished(() => rm(path, { recursive: true }));
  if (file !== null) await writeFile(join(path, 'generation_config.json'), file);
  return path;
}
const defaultsOf = (path: string, source = 'auto') =>
  readGenerationDefaults({ path, kind: 'safetensors', metadata: null } as Checkpoint, source);
const none = { sampling: {}, eosTokenIds: [] };

test.each([
  [null, none],
  ['{}', none],
  ['{"eos_token_id": null, "temperature": null}', none],
  ['{"eos_token_id": 2}', { ...none, eosTokenIds: [2] }],
  ['{"eos_token_id": [1, 2]}', { ...none, eosTokenIds: [1, 2] }],
  [
    '{"temperature": 0.6, "top_p": 0.95, "top_k": 20, "min_p": 0.1, "repetition_penalty": 1.05, "do_sample": true, "max_length": 9}',
    { ...none, sampling: { temperature: 0.6, topP: 0.95, topK: 20, minP: 0.1, repetitionPenalty: 1.05 } },
  ],
  ['{"top_k": -1}', { ...none, sampling: { topK: 0 } }],
])('generation_config.json gives the defaults of requests: %s', async (file, defaults) => {
  expect(await defaultsOf(await folderWith(file))).toEqual(defaults);
});

test.each([
  ['{"eos_token_id": "</s>"}', /eos_token_id/],
  ['{"temperature": -1}', /temperature/],
  ['{"top_p": 2}', /top_p/],
  ['{', /is not JSON/],
])('a generation_config.json that cannot be read is refused: %s', async (file, words) => {
  const failure = defaultsOf(await folderWith(file));
  await expect(failure).rejects.toMatchObject({ code: 'GRAFT_GENERATION_CONFIG' });
  await expect(failure).rejects.toThrow(words);
});

test('none switches the defaults off, and a file or folder replaces them', async () => {
  const model = await folderWith('{"temperature": 0.6, "eos_token_id": 2}');
  const other = await folderWith('{"temperature": 0.2}');
  expect(await defaultsOf(model, 'none')).toEqual(none);
  expect(await defaultsOf(model, other)).toEqual({ ...none, sampling: { temperature: 0.2 } });
  expect(await defaultsOf(model, join(other, 'generation_config.json'))).toEqual({ ...none, sampling: { temperature: 0.2 } });
  await expect(defaultsOf(model, join(other, 'nowhere'))).rejects.toMatchObject({ code: 'GRAFT_GENERATION_CONFIG' });
});

test('a file that is far too large is not read', async () => {
  const model = await folderWith('{}');
  await truncate(join(model, 'generation_config.json'), 2 ** 40);
  await expect(defaultsOf(model)).rejects.toThrow('1099511627776 bytes, and at most 67108864 are taken');
});

test('a GGUF gives them in general.sampling', async () => {
  const metadata = new Map<string, unknown>([
    ['general.sampling.temp', 0.7],
    ['general.sampling.top_k', 40n],
    ['general.sampling.penalty_repeat', 1.1],
  ]);
  const checkpoint = { path: 'model.gguf', kind: 'gguf', metadata } as unknown as Checkpoint;
  expect(await readGenerationDefaults(checkpoint, 'auto')).toEqual({
    ...none,
    sampling: { temperature: 0.7, topK: 40, repetitionPenalty: 1.1 },
  });
});
