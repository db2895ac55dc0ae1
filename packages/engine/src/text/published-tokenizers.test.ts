import { readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { Detokenizer } from './detokenizer.ts';
import { tokenizerFromGguf } from './gguf-tokenizer.ts';
import { createTokenizer, readTokenizer, type Tokenizer } from './tokenizer.ts';

// tests/fixtures/tokenizers/make.py made the ids and texts with the published implementations.
const fixtures = new URL('../../../../tests/fixtures/tokenizers/', import.meta.url);
const read = (file: string) => JSON.parse(readFileSync(new URL(file, fixtures), 'utf8'));

type Case = [text: string, ids: number[], decoded: string | null];
const encode = (tokenizer: Tokenizer, text: string) => tokenizer.encode(text, { addSpecialTokens: false });

interface GgufFixture {
  metadata: Record<string, unknown>;
  begins: number[];
  /** Ids that end an answer. */
  ends: number[];
  cases: Case[];
}

describe.each(Object.entries<GgufFixture>(read('gguf.json')))('a GGUF of the kind %s', (_, { metadata, begins, ends, cases }) => {
  const tokenizer = tokenizerFromGguf(new Map(Object.entries(metadata)));

  test.each(cases)('encodes %j as published, and decodes it', (text, ids) => {
    expect(encode(tokenizer, text)).toEqual(ids);
    expect(tokenizer.decode(ids)).toBe(text);
    expect(tokenizer.encode(text)).toEqual([...begins, ...ids]);
  });

  test('ends an answer at each of its end tokens', () => {
    expect(tokenizer.eosTokenIds).toEqual(ends);
  });
});

interface Features {
  model: object;
  features: { name: string; parts: object; cases: Case[] }[];
}
const { model, features } = read('features.json') as Features;

test.each(features)('a tokenizer.json with $name encodes as published', ({ parts, cases }) => {
  const tokenizer = createTokenizer({ ...parts, model }, { eosTokenIds: [], where: 'features.json' });
  for (const [text, ids] of cases) expect([text, encode(tokenizer, text)]).toEqual([text, ids]);
});

const folders = readdirSync(fixtures).filter((name) => name.startsWith('spm-'));

describe.each(folders)('the tokenizer.model of %s', async (folder) => {
  const tokenizer = (await readTokenizer(fileURLToPath(new URL(folder, fixtures))))!;

  test.each(read(`${folder}/cases.json`) as Case[])('encodes %j as SentencePiece does', (text, ids, decoded) => {
    expect(encode(tokenizer, text)).toEqual(ids);
    if (decoded !== null) expect(tokenizer.decode(ids, { skipSpecialTokens: false })).toBe(decoded);
  });

  test('has a lower bound for the number of tokens', () => {
    const letters = fc.string({ unit: fc.constantFrom(...'aeho <tag>\u2581\n'), minLength: 1, maxLength: 60 });
    fc.assert(
      fc.property(letters, (text) => {
        expect(tokenizer.leastTokens(text, 1)).toBeLessThanOrEqual(encode(tokenizer, text).length);
        expect(tokenizer.leastTokens(text, text.length)).toBeLessThanOrEqual(encode(tokenizer, text).length);
      }),
      { numRuns: 200 },
    );
  });
});

test('an answer keeps the space between it and its prompt, which decode drops at the start of a text', async () => {
  const tokenizer = (await readTokenizer(fileURLToPath(new URL('spm-bpe', fixtures))))!;
  const ids = encode(tokenizer, 'the dog');
  const detokenizer = new Detokenizer(tokenizer);
  expect(ids.map((id) => detokenizer.push(id)).join('')).toBe(' the dog');
  expect(tokenizer.decode(ids)).toBe('the dog');
});
