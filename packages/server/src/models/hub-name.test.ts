import { describe, expect, test } from 'vitest';
import { parseHubName, quantOf, selectFiles } from './hub-name.ts';

test.each([
  ['hf:Qwen/Qwen3-0.6B', 'Qwen/Qwen3-0.6B', null, null],
  ['hf:a/b-GGUF:Q4_K_M', 'a/b-GGUF', 'Q4_K_M', null],
  ['hf:a/b:sub folder/x-Q8_0.gguf', 'a/b', 'sub folder/x-Q8_0.gguf', null],
  ['hf:a/b@refs/pr/1', 'a/b', null, 'refs/pr/1'],
  ['hf:a/b:IQ4_XS@v1.0', 'a/b', 'IQ4_XS', 'v1.0'],
])('%s is read as repository, variant and revision', (text, repo, variant, revision) => {
  expect(parseHubName(text)).toEqual({ text, repo, variant, revision });
});

test.each(['hf:', 'hf:b', 'hf:a/b/c', 'hf:../b', 'hf:a/b@../../x', 'hf:a/b@/x', 'hf:a/b:', 'hf:a/b@', 'hf:a b/c'])(
  '%j is refused with the form of a name',
  (text) => {
    const form = expect.stringContaining('hf:ORG/REPO[:QUANT or FILE][@REVISION]');
    expect(() => parseHubName(text)).toThrow(expect.objectContaining({ code: 'GRAFT_HUB_NAME', fix: form }));
  },
);

test('a name without hf: is refused, and the error says to write it', () => {
  expect(() => parseHubName('Qwen/Qwen3-0.6B')).toThrow(
    expect.objectContaining({ fix: expect.stringContaining('write hf:Qwen/Qwen3-0.6B;') }),
  );
});

test.each([
  ['Llama-3.2-1B-Instruct-Q4_K_M.gguf', 'Q4_K_M'],
  ['qwen2-0_5b-instruct-q5_k_m.gguf', 'Q5_K_M'],
  ['SmolLM2-135M-Instruct.Q4_1.gguf', 'Q4_1'],
  ['gemma-3-1b-it-UD-Q4_K_XL.gguf', 'UD-Q4_K_XL'],
  ['gpt-oss-20b-mxfp4.gguf', 'MXFP4'],
  ['BF16/Qwen3-BF16-00001-of-00002.gguf', 'BF16'],
  ['Q8_0/model-00001-of-00002.gguf', 'Q8_0'],
  ['model-Q4_K_M-imat.gguf', 'Q4_K_M'],
  ['Phi-3-mini-4k-instruct-fp16.gguf', 'FP16'],
  ['model-IQ3_XXS.gguf', 'IQ3_XXS'],
  ['model.gguf', null],
])('%s names the quantisation %s', (path, quant) => {
  expect(quantOf(path)).toBe(quant);
});

const select = (name: string, ...paths: string[]) => selectFiles(parseHubName(name), paths);
const refusal = (name: string, ...paths: string[]) => {
  try {
    return expect.fail(JSON.stringify(select(name, ...paths)));
  } catch (error) {
    return error as { what: string; fix: string };
  }
};

describe('the files of a model', () => {
  test('of safetensors are config, tokenizer, templates and the weights, and nothing else of the repository', () => {
    const small = [
      'chat_template.jinja',
      'config.json',
      'generation_config.json',
      'merges.txt',
      'tokenizer.json',
      'tokenizer_config.json',
      'vocab.json',
    ];
    const other = [
      '.gitattributes',
      'README.md',
      'consolidated.safetensors',
      'original/params.json',
      'pytorch_model.bin',
      'onnx/config.json',
    ];
    expect(select('hf:a/b', ...small, ...other, 'model.safetensors')).toEqual({
      small,
      index: null,
      weights: ['model.safetensors'],
      open: '',
      note: null,
    });
    expect(select('hf:a/b', 'config.json', 'model.safetensors.index.json', 'model-00001-of-00001.safetensors')).toMatchObject({
      index: 'model.safetensors.index.json',
      weights: [],
    });
  });

  test('of a GGUF are the file, or all of its parts by the name of any', () => {
    const paths = ['config.json', 'model.safetensors', 'x-Q8_0.gguf', 'q4/x-Q4_K_M-00001-of-00002.gguf', 'q4/x-Q4_K_M-00002-of-00002.gguf'];
    expect(select('hf:a/b:q8_0', ...paths)).toMatchObject({ weights: ['x-Q8_0.gguf'], open: 'x-Q8_0.gguf' });
    const whole = { weights: paths.slice(3), open: paths[3], note: null };
    expect(select('hf:a/b:Q4_K_M', ...paths)).toMatchObject(whole);
    expect(select('hf:a/b:x-Q4_K_M-00002-of-00002.gguf', ...paths)).toMatchObject(whole);
    expect(refusal('hf:a/b:Q4_K_M', ...paths.slice(0, -1)).what).toBe('Of the 2 parts of q4/x-Q4_K_M-00001-of-00002.gguf, 1 are there.');
  });

  test.each([
    ['Q4_K_M', ['x-BF16.gguf', 'x-Q4_0.gguf', 'x-Q4_K_M.gguf', 'x-Q8_0.gguf']],
    ['Q8_0', ['x-BF16.gguf', 'x-Q4_0.gguf', 'x-Q8_0.gguf']],
    ['Q5_K_M', ['x-BF16.gguf', 'x-Q2_K.gguf', 'x-Q5_K_M.gguf']],
  ])('without a quantisation are %s of several, and a note lists the others', (taken, paths) => {
    const { open, note } = select('hf:a/b', ...paths);
    expect(open).toBe(`x-${taken}.gguf`);
    expect(note).toContain(`${taken} is taken`);
    for (const path of paths) expect(note).toContain(`"${quantOf(path)}"`);
  });

  test('never are a projector, an importance matrix or a draft model', () => {
    expect(select('hf:a/b', 'mmproj-x-Q4_K_M.gguf', 'imatrix.gguf', 'mtp-x-Q4_K_M.gguf', 'x-Q6_K.gguf')).toMatchObject({
      open: 'x-Q6_K.gguf',
      note: null,
    });
  });

  test('with UD- before the quantisation are found without it, and the plain ones come first', () => {
    expect(select('hf:a/b:Q4_K_XL', 'x-UD-Q4_K_XL.gguf', 'x-Q8_0.gguf').open).toBe('x-UD-Q4_K_XL.gguf');
    expect(select('hf:a/b:Q2_K', 'x-UD-Q2_K.gguf', 'x-Q2_K.gguf').open).toBe('x-Q2_K.gguf');
  });

  test('that several GGUFs of one quantisation could be are refused with the list and a name to write', () => {
    const { what, fix } = refusal('hf:a/b:Q8_0@v1', 'small-Q8_0.gguf', 'large-Q8_0.gguf');
    expect(what).toBe('"hf:a/b:Q8_0@v1" may mean several GGUFs: "small-Q8_0.gguf" and "large-Q8_0.gguf".');
    expect(fix).toContain('hf:a/b:small-Q8_0.gguf@v1');
    expect(refusal('hf:a/b', 'small.gguf', 'large.gguf').what).toContain('"small.gguf" and "large.gguf"');
  });

  test('that the repository lacks are refused with what it has and what would be taken', () => {
    const { what, fix } = refusal('hf:a/b:Q3_K_S', 'x-Q8_0.gguf', 'x-Q4_K_M.gguf');
    expect(what).toBe('The repository has no GGUF "Q3_K_S".');
    expect(fix).toBe('write one that it has, such as hf:a/b:Q4_K_M. It has "Q4_K_M" and "Q8_0".');
    expect(refusal('hf:a/b', 'pytorch_model.bin', 'config.json').fix).toContain('this one has "pytorch_model.bin"');
    expect(refusal('hf:a/b:Q4_K_M', 'config.json', 'model.safetensors').fix).toContain('write hf:a/b for its safetensors');
  });
});
