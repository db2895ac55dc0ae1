import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { ggufPreTokenizers } from '@graft/core-model';
import fc from 'fast-check';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { chats, ggufTokenizerMetadata, smollm2Folder, tokenTexts } from '../../../../tests/fixtures/smollm2/load.ts';
import { byteOfCharacter } from './decoder.ts';
import { tokenizerFromGguf } from './gguf-tokenizer.ts';
import { createTokenizer, readTokenizer } from './tokenizer.ts';

const metadata = ggufTokenizerMetadata();
const fromGguf = tokenizerFromGguf(metadata);
const fromFolder = (await readTokenizer(smollm2Folder))!;

/** A GGUF with seven tokens: the letters a, b, a space, `ab`, ` ab`, a beginning token and one that the user defined. */
const tinyMetadata = (more: Record<string, unknown> = {}): ReadonlyMap<string, unknown> =>
  new Map<string, unknown>(
    Object.entries({
      'tokenizer.ggml.model': 'gpt2',
      'tokenizer.ggml.pre': 'gpt-2',
      'tokenizer.ggml.tokens': ['a', 'b', 'Ġ', 'ab', 'Ġab', '<s>', '[é]'],
      'tokenizer.ggml.token_type': [1, 1, 1, 1, 1, 3, 4],
      'tokenizer.ggml.merges': ['a b', 'Ġ ab'],
      'tokenizer.ggml.bos_token_id': 5,
      ...more,
    }),
  );

const letters = [...byteOfCharacter].sort(([, a], [, b]) => a - b).map(([letter]) => letter);

const sources = { 'tokenizer.json': fromFolder, 'a GGUF': fromGguf };

describe.each(Object.entries(sources))('SmolLM2 from %s', (_, tokenizer) => {
  test.each(tokenTexts)('encodes $text as published', ({ text, ids }) => {
    expect(tokenizer.encode(text)).toEqual(ids);
    expect(tokenizer.decode(ids, { skipSpecialTokens: false })).toBe(text);
  });

  test('encodes the prompts and decodes the answers of the reference chats', () => {
    for (const { prompt, promptIds, greedyIds, greedyText } of chats) {
      expect(tokenizer.encode(prompt, { addSpecialTokens: false })).toEqual(promptIds);
      expect(tokenizer.decode(greedyIds)).toBe(greedyText);
    }
  });

  test('has 49152 tokens, of which 17 are special', () => {
    const pieces = Array.from({ length: 49160 }, (_, id) => tokenizer.piece(id));
    expect(pieces.findLastIndex(({ bytes }) => bytes.length > 0)).toBe(49151);
    expect(pieces.filter(({ special }) => special)).toHaveLength(17);
    expect(tokenizer.encode('<|im_end|>')).toEqual([2]);
  });
});

test('gives each token its own bytes', () => {
  expect(fromGguf.piece(2)).toEqual({ bytes: new TextEncoder().encode('<|im_end|>'), special: true });
  expect(Buffer.from(fromGguf.piece(4649).bytes).toString()).toBe(' France');
  expect(fromGguf.piece(235).bytes).toHaveLength(1);
});

test('decodes no tokens to no text', () => {
  expect(fromGguf.decode([])).toBe('');
  expect(fromGguf.encode('')).toEqual([]);
});

test('leaves the space before punctuation, as text that streams must', () => {
  expect(fromGguf.decode(fromGguf.encode("yes , we 've !"))).toBe("yes , we 've !");
});

test('text of letters, marks and emoji comes back from its ids unchanged', () => {
  // Without control characters and the highest planes: the vocabulary lacks the bytes 4, 6, 19, 20, 22, 29 and those from F1 on.
  const letters = fc.string({ unit: fc.constantFrom(...'abcXYZ019 \n\t.,!?\'"éßñΩжあ漢ﷺ́👩‍👧🙂'), maxLength: 40 });
  fc.assert(
    fc.property(letters, (text) => {
      expect(fromGguf.decode(fromGguf.encode(text), { skipSpecialTokens: false })).toBe(text);
    }),
    { numRuns: 200 },
  );
});

// Ids by the Python package tokenizers 0.23.3 on the same tokenizer.json.
test.each([
  ['digits that are not ASCII, one by one', 'x ½²٣', [104, 216, 16738, 19133, 164, 113]],
  ['U+0085 as white space and U+FEFF as none, unlike JavaScript', 'a\ufeff b\u0085 c', [81, 186, 136, 140, 278, 141, 223, 265]],
  ['a byte that the vocabulary lacks as if it were not there', "a \u0014'x", [81, 637, 104]],
])('cuts %s', (_, text, ids) => {
  expect(fromFolder.encode(text)).toEqual(ids);
  expect(fromGguf.encode(text)).toEqual(ids);
});

test('an id without a token contributes no text, since logits may be wider than the vocabulary', () => {
  expect(fromGguf.decode([19556, 60000, 905])).toBe('Hello world');
});

test.each([-1, 1.5, Number.NaN])('refuses the id %s', (id) => {
  expect(() => fromGguf.decode([id])).toThrow(expect.objectContaining({ code: 'GRAFT_TOKEN_ID_INVALID' }));
});

describe('a GGUF', () => {
  test('may have bigints for ids', () => {
    const tokenizer = tokenizerFromGguf(tinyMetadata({ 'tokenizer.ggml.eos_token_id': 5n, 'tokenizer.ggml.eot_token_id': 6n }));
    expect(tokenizer.encode('ab ab')).toEqual([3, 4]);
    expect(tokenizer.eosTokenIds).toEqual([5, 6]);
  });

  test('adds the beginning token if its metadata says so, unless the caller refuses', () => {
    const tokenizer = tokenizerFromGguf(tinyMetadata({ 'tokenizer.ggml.add_bos_token': true }));
    expect(tokenizer.encode('ab')).toEqual([5, 3]);
    expect(tokenizer.encode('')).toEqual([5]);
    expect(tokenizer.encode('ab', { addSpecialTokens: false })).toEqual([3]);
    expect(tokenizerFromGguf(tinyMetadata({ 'tokenizer.ggml.pre': 'llama-bpe' })).encode('ab')).toEqual([5, 3]);
  });

  test('matches user-defined tokens whole and keeps them in the text', () => {
    const tokenizer = tokenizerFromGguf(tinyMetadata());
    expect(tokenizer.encode('ab[é]<s>')).toEqual([3, 6, 5]);
    expect(tokenizer.decode([3, 6, 5])).toBe('ab[é]');
  });

  test('keeps both ids of a name that occurs twice, and encodes to the first', () => {
    const tokenizer = tokenizerFromGguf(
      tinyMetadata({ 'tokenizer.ggml.tokens': ['a', 'b', 'Ġ', 'ab', 'a', '<s>', '__proto__'], 'tokenizer.ggml.merges': ['a b'] }),
    );
    expect(tokenizer.encode('a')).toEqual([0]);
    expect(tokenizer.decode([4, 0])).toBe('aa');
    expect(Buffer.from(tokenizer.piece(6).bytes).toString()).toBe('__proto__');
  });

  test.each([
    ['llama-bpe', 'aaaa   Bb 12345', ['aaaa', '  ', ' Bb', ' ', '123', '45']],
    ['qwen2', '12 a', ['1', '2', ' a']],
    ['llama4', "HTTPServer don't", ['HTTPServer', " don't"]],
    ['gpt-2', '123 a  b', ['123', ' a', ' ', ' b']],
    ['smollm', ' 12 a', [' ', '1', '2', ' a']],
    ['default', 'a, 1234', ['a', ',', ' ', '123', '4']],
    ['tekken', "HTTPServer's 12", ['HTTPServer', "'s", ' ', '1', '2']],
    ['gpt-4o', "helloWorld's//\n1234", ['hello', "World's", '//\n', '123', '4']],
    ['deepseek-llm', 'ab1234, c', ['ab', '1234', ',', ' c']],
    ['deepseek-v3', '1234\u4e00a.b', ['123', '4', '\u4e00', 'a', '.b']],
    ['qwen35', 'e\u0301a 12', ['e\u0301a', ' ', '1', '2']],
    ['kimi-k2', '\u4e00\u4e8cabC', ['\u4e00\u4e8c', 'ab', 'C']],
    ['afmoe', '1234567 12', ['1', '234', '567', ' ', '12']],
    ['superbpe', '1234567', ['1', '234', '567']],
    ['youtu', 'a，b1', ['a', '，', 'b', '1']],
    ['bloom', 'a b,', ['a', ' b', ',']],
  ])('with pre "%s" cuts %j into %j', (pre, text, pieces) => {
    // A vocabulary of whole pieces shows the cuts: with all of them known and no way to merge further, each piece is one token.
    const written = (piece: string) => Array.from(Buffer.from(piece), (byte) => letters[byte]).join('');
    const characters = [...new Set(written(pieces.join('')))];
    const tokens = [...new Set([...characters, ...pieces.flatMap((piece) => prefixes(written(piece)))])];
    const merges = [
      ...new Set(
        pieces.flatMap((piece) =>
          prefixes(written(piece))
            .slice(1)
            .map((prefix) => `${prefix.slice(0, -1)} ${prefix.at(-1)}`),
        ),
      ),
    ];
    const keys = { 'tokenizer.ggml.pre': pre, 'tokenizer.ggml.tokens': tokens, 'tokenizer.ggml.merges': merges };
    const tokenizer = tokenizerFromGguf(
      tinyMetadata({ ...keys, 'tokenizer.ggml.token_type': undefined, 'tokenizer.ggml.bos_token_id': undefined }),
    );
    expect(tokenizer.encode(text).map((id) => tokenizer.decode([id]))).toEqual(pieces);
  });

  test.each([
    [{ 'tokenizer.ggml.model': 'rwkv' }, 'GRAFT_TOKENIZER_UNSUPPORTED', /"rwkv".*gpt2.*llama/],
    [{ 'tokenizer.ggml.model': 'llama' }, 'GRAFT_TOKENIZER_INVALID', /scores is missing/],
    [{ 'tokenizer.ggml.model': 'llama', 'tokenizer.ggml.scores': [0] }, 'GRAFT_TOKENIZER_INVALID', /1 entries for 7 tokens/],
    [{ 'tokenizer.ggml.pre': 'deepseek-v9' }, 'GRAFT_TOKENIZER_UNSUPPORTED', /"deepseek-v9".*llama-bpe.*qwen2.*smollm/],
    [{ 'tokenizer.ggml.pre': 'toString' }, 'GRAFT_TOKENIZER_UNSUPPORTED', /"toString"/],
    [{ 'tokenizer.ggml.tokens': undefined }, 'GRAFT_TOKENIZER_INVALID', /tokens is missing/],
    [{ 'tokenizer.ggml.tokens': ['a', 7] }, 'GRAFT_TOKENIZER_INVALID', /entry 7 at 1/],
    [{ 'tokenizer.ggml.token_type': [1] }, 'GRAFT_TOKENIZER_INVALID', /1 entries for 7 tokens/],
    [{ 'tokenizer.ggml.merges': ['ab'] }, 'GRAFT_TOKENIZER_INVALID', /merges\[0\] is "ab"/],
    [{ 'tokenizer.ggml.merges': 'a b' }, 'GRAFT_TOKENIZER_INVALID', /merges is not a list/],
    [{ 'tokenizer.ggml.eos_token_id': 7 }, 'GRAFT_TOKENIZER_INVALID', /eos_token_id is 7/],
    [{ 'tokenizer.ggml.add_bos_token': 1 }, 'GRAFT_TOKENIZER_INVALID', /add_bos_token is neither/],
  ])('with %j is refused', (more, code, message) => {
    const make = () => tokenizerFromGguf(tinyMetadata(more), 'tiny.gguf');
    expect(make).toThrow(expect.objectContaining({ code, where: 'tiny.gguf' }));
    expect(make).toThrow(message);
  });
});

const byteTokens = Array.from({ length: 256 }, (_, byte) => `<0x${byte.toString(16).toUpperCase().padStart(2, '0')}>`);

test.each(Object.entries(ggufPreTokenizers))('pre "%s" loses no text', (pre, { alphabet }) => {
  const text = "Hello  World's 1234567 \u4e00\u3042\n\n\ue000 e\u0301 ,. <sentinel:1> IMGIMGABZ";
  const tokens = alphabet === 'bytes' ? [...byteOfCharacter.keys()] : [...byteTokens, '\u2581'];
  const keys = { 'tokenizer.ggml.pre': pre, 'tokenizer.ggml.tokens': tokens, 'tokenizer.ggml.merges': [] };
  const tokenizer = tokenizerFromGguf(
    tinyMetadata({ ...keys, 'tokenizer.ggml.token_type': undefined, 'tokenizer.ggml.bos_token_id': undefined }),
  );
  expect(tokenizer.decode(tokenizer.encode(text))).toBe(text);
});

describe('end tokens', () => {
  const named = (names: string[], more: Record<string, unknown> = {}) => {
    const tokens = ['a', ...names];
    const keys = {
      'tokenizer.ggml.tokens': tokens,
      'tokenizer.ggml.merges': [],
      'tokenizer.ggml.token_type': tokens.map((_, id) => (id === 0 ? 1 : 3)),
    };
    return tokenizerFromGguf(tinyMetadata({ ...keys, 'tokenizer.ggml.bos_token_id': undefined, ...more }));
  };

  test.each([
    ['one that the file declares and others by name', ['<|eot_id|>', '<|start|>', '<|im_end|>', '<end_of_turn>'], [1, 3, 4]],
    ['not the end of one message of several', ['<|return|>', '<|call|>', '<|end|>'], [1, 2]],
    ['the end of a message where answers have one', ['<|end|>', '<|user|>'], [1]],
  ])('are %s', (_, names, ids) => {
    expect(named(names).eosTokenIds).toEqual(ids);
  });

  test('are special even if the file calls them ordinary', () => {
    const tokenizer = named(['<|im_end|>'], { 'tokenizer.ggml.token_type': [1, 1] });
    expect(tokenizer.encode('a<|im_end|>')).toEqual([0, 1]);
    expect(tokenizer.decode([0, 1])).toBe('a');
  });
});

test('a beginning token that the text already has is not added again', () => {
  const tokenizer = tokenizerFromGguf(tinyMetadata({ 'tokenizer.ggml.add_bos_token': true }));
  expect(tokenizer.encode('<s>ab')).toEqual([5, 3]);
});

test('a Phi-3 takes the white space after its tokens, which a GGUF cannot say', () => {
  const tokenizer = tokenizerFromGguf(
    tinyMetadata({ 'general.name': 'Phi-3-mini', 'tokenizer.ggml.tokens': ['a', 'b', 'Ġ', 'ab', 'Ġab', '<|user|>', '[x]'] }),
  );
  expect(tokenizer.encode('<|user|>  ab ab')).toEqual([5, 3, 4]);
});

test('one word of 200,000 characters is encoded without quadratic time', () => {
  const word = 'abcdefghij'.repeat(20_000);
  expect(fromGguf.decode(fromGguf.encode(word))).toBe(word);
});

describe('a folder', () => {
  let folder: string;
  const json = {
    added_tokens: [{ id: 3, content: '<s>', special: true }],
    normalizer: null,
    pre_tokenizer: { type: 'ByteLevel', add_prefix_space: false, use_regex: true },
    post_processor: null,
    decoder: { type: 'ByteLevel' },
    model: { type: 'BPE', vocab: { a: 0, b: 1, ab: 2 }, merges: ['a b'] },
  };
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'graft-tokenizer-'));
  });
  afterAll(() => rm(folder, { recursive: true }));

  test('names its beginning and end tokens in tokenizer_config.json', async () => {
    await writeFile(join(folder, 'tokenizer.json'), JSON.stringify(json));
    await writeFile(join(folder, 'tokenizer_config.json'), JSON.stringify({ bos_token: { content: '<s>' }, eos_token: 'ab' }));
    const tokenizer = (await readTokenizer(folder))!;
    expect(tokenizer.eosTokenIds).toEqual([2]);
    expect(tokenizer.encode('ab<s>')).toEqual([2, 3]);
  });

  test.each([
    ['', /no pieces/],
    ['0a', /ends within a number/],
    ['0a7f', /ends within a field/],
    ['0f', /Field type 7/],
  ])('with a damaged tokenizer.model is refused: %j', async (bytes, message) => {
    const damaged = await mkdtemp(join(folder, 'damaged-'));
    await writeFile(join(damaged, 'tokenizer.model'), Buffer.from(bytes, 'hex'));
    const failure = readTokenizer(damaged);
    await expect(failure).rejects.toMatchObject({ code: 'GRAFT_TOKENIZER_INVALID', where: join(damaged, 'tokenizer.model') });
    await expect(failure).rejects.toThrow(message);
  });

  test('with words or characters of SentencePiece is refused by that name', async () => {
    const words = await mkdtemp(join(folder, 'words-'));
    await writeFile(join(words, 'tokenizer.model'), Buffer.from('0a030a016112021803', 'hex'));
    await expect(readTokenizer(words)).rejects.toThrow(/"word".*bpe, unigram/);
  });

  test('without a tokenizer.json has no tokenizer; a tokenizer.json that is not JSON is refused', async () => {
    expect(await readTokenizer(join(folder, 'none'))).toBeNull();
    await writeFile(join(folder, 'tokenizer.json'), '{"model":');
    await expect(readTokenizer(folder)).rejects.toMatchObject({ code: 'GRAFT_TOKENIZER_INVALID', where: join(folder, 'tokenizer.json') });
  });

  test.each([
    [{ ...json, model: { type: 'WordPiece', vocab: {} } }, 'GRAFT_TOKENIZER_UNSUPPORTED', /"WordPiece".*BPE, Unigram/],
    [{ ...json, decoder: { type: 'WordPiece' } }, 'GRAFT_TOKENIZER_UNSUPPORTED', /"WordPiece".*ByteLevel/],
    [{ ...json, decoder: null }, 'GRAFT_TOKENIZER_UNSUPPORTED', /decoder/],
    [{ ...json, normalizer: { type: 'BertNormalizer' } }, 'GRAFT_TOKENIZER_UNSUPPORTED', /"BertNormalizer".*NFC/],
    [{ ...json, post_processor: { type: 'Other' } }, 'GRAFT_TOKENIZER_UNSUPPORTED', /"Other".*TemplateProcessing/],
    [{ ...json, model: { ...json.model, end_of_word_suffix: '</w>' } }, 'GRAFT_TOKENIZER_UNSUPPORTED', /end_of_word_suffix "<\/w>"/],
    [
      { ...json, pre_tokenizer: { type: 'Split', pattern: { String: ' ' }, behavior: 'Sideways' } },
      'GRAFT_TOKENIZER_UNSUPPORTED',
      /Sideways.*MergedWithNext/,
    ],
    [
      { ...json, pre_tokenizer: { type: 'Split', pattern: { String: ' ' }, behavior: 'Contiguous', invert: true } },
      'GRAFT_TOKENIZER_UNSUPPORTED',
      /Contiguous, inverted/,
    ],
    [{ ...json, model: { type: 'BPE', vocab: { a: -1 }, merges: [] } }, 'GRAFT_TOKENIZER_INVALID', /model\.vocab/],
    [{ ...json, pre_tokenizer: { type: 'NoSuchThing' } }, 'GRAFT_TOKENIZER_UNSUPPORTED', /NoSuchThing/],
    [
      { ...json, post_processor: { type: 'TemplateProcessing', single: [{ SpecialToken: { id: '<none>', type_id: 0 } }], pair: [] } },
      'GRAFT_TOKENIZER_INVALID',
      /puts unknown tokens around/,
    ],
    [[], 'GRAFT_TOKENIZER_INVALID', /expected object/],
    [null, 'GRAFT_TOKENIZER_INVALID', /expected object/],
  ])('with a tokenizer.json of another kind is refused (%#)', (content, code, message) => {
    const make = () => createTokenizer(content, { eosTokenIds: [], where: 'tokenizer.json' });
    expect(make).toThrow(expect.objectContaining({ code }));
    expect(make).toThrow(message);
  });
});

function prefixes(text: string): string[] {
  return Array.from({ length: text.length }, (_, i) => text.slice(0, i + 1));
}
