import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Checkpoint } from '@graft/core-model';
import { expect, onTestFinished, test } from 'vitest';
import { openModelText } from './model-text.ts';

async function textOf(generationConfig: string | null) {
  const path = await mkdtemp(join(tmpdir(), 'graft-model-text-'));
  onTestFinished(() => rm(path, { recursive: true }));
  if (generationConfig !== null) await writeFile(join(path, 'generation_config.json'), generationConfig);
  return await openModelText({ path, kind: 'safetensors', metadata: null } as Checkpoint);
}

test.each([
  [null, []],
  ['{}', []],
  ['{"eos_token_id": null}', []],
  ['{"eos_token_id": 2}', [2]],
  ['{"eos_token_id": [1, 2]}', [1, 2]],
])('generation_config.json adds end tokens: %s', async (config, ids) => {
  expect(await textOf(config)).toEqual({ tokenizer: null, template: null, eosTokenIds: ids });
});

test.each([
  ['{"eos_token_id": "</s>"}', /eos_token_id/],
  ['{', /is not JSON/],
])('a generation_config.json that cannot be read is refused: %s', async (config, words) => {
  const failure = textOf(config);
  await expect(failure).rejects.toMatchObject({ code: 'GRAFT_TOKENIZER_INVALID' });
  await expect(failure).rejects.toThrow(words);
});
