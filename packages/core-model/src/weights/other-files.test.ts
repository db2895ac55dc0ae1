import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
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
  ['', { 'config.json': config, 'pytorch_model.bin': large }, /no model.safetensors/, /convert .*\/pytorch_model.bin: /],
  ['', {}, /it has: nothing/, /check the path/],
  ['missing', {}, /No file or folder/, /config.json and safetensors/],
  ['Q8.gguf', { 'model-Q8_0.gguf': large }, /No file or folder/, /did you mean ".*\/checkpoint\/model-Q8_0.gguf"/],
  ['consolidated.00.pth', { 'consolidated.00.pth': large }, /PyTorch checkpoint/, /safetensors/],
  ['flax_model.msgpack', { 'flax_model.msgpack': large }, /not read/, /GGUF/],
  ['', { 'a-mmproj.json': large, 'mmproj-a.gguf': large, 'z-Q8_0.gguf': large }, /no config.json/, /name the file: .*\/z-Q8_0.gguf$/],
  ['', { 'adapter_config.json': '{}', 'adapter_model.safetensors': large }, /no config.json/, /adapter/],
  ['', { 'model_index.json': '{}' }, /no config.json/, /makes images/],
  ['', { 'config.json': config, 'model-00001-of-00002.safetensors': large }, /no model.safetensors/, /index.json/],
  ['', { 'config.json': config, 'flax_model.msgpack': large }, /no model.safetensors/, /safetensors or a GGUF/],
  ['', { 'consolidated.safetensors': large, 'params.json': '{}' }, /no config.json/, /another layout/],
  ['', { 'Q8_0/model-Q8_0.gguf': large }, /it has: Q8_0/, /name what is in it: .*\/Q8_0\/model-Q8_0.gguf$/],
  ['', { 'copy/config.json': config }, /it has: copy/, /name what is in it: .*\/copy$/],
])('%s among %o leads to what was meant', async (named, files, message, fix) => {
  const folder = join(temporaryFolder(), 'checkpoint');
  mkdirSync(folder, { recursive: true });
  for (const [name, text] of Object.entries(files)) {
    mkdirSync(dirname(join(folder, name)), { recursive: true });
    writeFileSync(join(folder, name), text);
  }
  const error = await failure(() => openCheckpoint(join(folder, named)));
  expect([error.code, error.message]).toEqual(['GRAFT_CHECKPOINT_NOT_FOUND', expect.stringMatching(message)]);
  expect(error.fix).toMatch(fix);
});

test('a URL leads to a download or to the name of a model on the hub', async () => {
  expect((await failure(() => openCheckpoint('https://huggingface.co/a/b'))).fix).toContain('hf:ORG/REPO');
});

test('a link to a lost file is named', async () => {
  const folder = temporaryFolder();
  writeFileSync(join(folder, 'config.json'), config);
  symlinkSync('../../blobs/lost', join(folder, 'model.safetensors'));
  expect((await failure(() => openCheckpoint(folder))).message).toMatch(/^model.safetensors is a link to a file that does not exist/);
});

test.each([
  ['tjgg and the rest of a file', /older than GGUF/],
  ['PK\x03\x04 and the rest of a file', /zip archive/],
  ['\x1f\x8b and the rest of a file', /compressed archive/],
  ['MZqFpD and the rest of a file', /a program/],
])('a .gguf that begins with %j is told apart', async (start, message) => {
  const path = join(temporaryFolder(), 'model.gguf');
  writeFileSync(path, Buffer.from(start, 'latin1'));
  expect(await failure(() => openCheckpoint(path))).toMatchObject({
    code: 'GRAFT_GGUF_UNSUPPORTED',
    message: expect.stringMatching(message),
  });
});
