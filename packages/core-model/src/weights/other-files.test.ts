import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { openCheckpoint } from './checkpoint.ts';
import { failure, temporaryFolder } from './checkpoint-files.fixture.ts';

const config = JSON.stringify({ architectures: ['LlamaForCausalLM'] });
const large = 'x'.repeat(64);

test.each<[named: string, files: Record<string, string>, message: RegExp, fix: RegExp]>([
  ['model.safetensors', { 'model.safetensors': large, 'config.json': config }, /file of weights/, /name the folder: .*\/checkpoint$/],
  ['pytorch_model.bin', { 'pytorch_model.bin': large }, /PyTorch checkpoint/, /safetensors/],
  ['tokenizer.model', { 'tokenizer.model': large }, /one of the files/, /name the folder/],
  ['config.json', { 'config.json': config }, /one of the files/, /name the folder/],
  ['model.onnx', { 'model.onnx': large }, /not read/, /GGUF/],
  ['', { 'model-Q4_K_M.gguf': large }, /no config.json; it has: model-Q4_K_M.gguf/, /name the file: .*\/checkpoint\/model-Q4_K_M.gguf$/],
  ['', { 'config.json': config, 'model-Q4_K_M.gguf': large }, /no model.safetensors/, /name the file: .*model-Q4_K_M.gguf$/],
  ['', { 'config.json': config, 'pytorch_model.bin': large }, /no model.safetensors/, /convert pytorch_model.bin/],
  ['', {}, /it has: nothing/, /check the path/],
  ['missing', {}, /cannot be found/, /config.json and safetensors/],
])('%s among %o leads to what was meant', async (named, files, message, fix) => {
  const folder = join(temporaryFolder(), 'checkpoint');
  mkdirSync(folder, { recursive: true });
  for (const [name, text] of Object.entries(files)) writeFileSync(join(folder, name), text);
  const error = await failure(() => openCheckpoint(join(folder, named)));
  expect([error.code, error.message]).toEqual(['GRAFT_CHECKPOINT_NOT_FOUND', expect.stringMatching(message)]);
  expect(error.fix).toMatch(fix);
});
