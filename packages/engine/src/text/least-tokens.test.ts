import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { smollm2Folder, tokenTexts } from '../../../../tests/fixtures/smollm2/load.ts';
import { LeastTokens } from './least-tokens.ts';
import { createTokenizer, readTokenizer } from './tokenizer.ts';

const tokenizer = (await readTokenizer(smollm2Folder))!;
const bytes = (text: string): Uint8Array => Buffer.from(text, 'latin1');

describe('the least number of tokens', () => {
  test('is the number of the longest possible pieces', () => {
    const least = new LeastTokens(['a', 'b', 'ab', 'aaaa'].map(bytes), (text) => text);
    expect(['', 'a', 'ab', 'aaaa', 'aaaaaaaa', 'aaaaab', 'bbb'].map((text) => least.count(text, 100))).toEqual([0, 1, 1, 1, 2, 2, 3]);
  });

  test('is counted up to the limit only', () => {
    const least = new LeastTokens([bytes('a')], (text) => text);
    expect(least.count('a'.repeat(1000), 7)).toBe(7);
  });

  test('ignores bytes that begin no token, and characters that normalising removes', () => {
    expect(new LeastTokens([bytes('a'), bytes('aa')], (text) => text).count('a-a', 9)).toBe(1);
    const composed = new LeastTokens(
      [...Array(256).keys()].map((byte) => Uint8Array.of(byte)),
      (text) => text.normalize('NFC'),
    );
    expect(composed.count('e\u0301', 9)).toBe(2);
  });

  test('is never more than the tokens that a real tokenizer makes', () => {
    const texts = fc.array(
      fc.oneof(fc.constantFrom('the', ' ', '\n', 'aaaa', '    ', 'Protection', '<|im_end|>', '123'), fc.string({ unit: 'binary' })),
      {
        maxLength: 20,
      },
    );
    fc.assert(
      fc.property(texts, (parts) => {
        const text = parts.join('');
        expect(tokenizer.leastTokens(text, 1)).toBeLessThanOrEqual(1);
        expect(new Least().count(text)).toBeLessThanOrEqual(tokenizer.encode(text).length);
      }),
      { numRuns: 100 },
    );
    for (const { text, ids } of tokenTexts) expect(new Least().count(text)).toBeLessThanOrEqual(ids.length);
  });

  test('is exact for a text of one repeated character, even if encoding it would take minutes', () => {
    const text = 'a'.repeat(8000);
    expect(tokenizer.leastTokens(text, 5000)).toBe(tokenizer.encode(text).length);
    expect(tokenizer.leastTokens('a'.repeat(1e6), 8192)).toBe(8192);
  });

  test('is 0 for a text that is too short to reach the limit', () => {
    expect(tokenizer.leastTokens('four', 100)).toBe(0);
  });
});

/** A bound of the real tokenizer's pieces, whatever the length of the text. */
class Least {
  private static readonly least = new LeastTokens(
    Array.from({ length: 49152 }, (_, id) => tokenizer.piece(id).bytes),
    (text) => text,
  );
  count(text: string): number {
    return Least.least.count(text, Number.POSITIVE_INFINITY);
  }
}

describe('a tokenizer that may lose text or add to it', () => {
  const vocab = Object.fromEntries([...Array(95).keys()].map((i) => [String.fromCharCode(33 + i), i]));
  const json = {
    added_tokens: [] as object[],
    normalizer: null as object | null,
    pre_tokenizer: { type: 'ByteLevel', add_prefix_space: false, use_regex: true } as object,
    post_processor: null,
    decoder: { type: 'ByteLevel' },
    model: { type: 'BPE', unk_token: null, vocab, merges: [] },
  };
  const leastOf = (change: Partial<typeof json>) =>
    createTokenizer({ ...json, ...change }, { eosTokenIds: [], where: 'test' }).leastTokens('a'.repeat(50), 50);

  test('has no bound', () => {
    expect(leastOf({})).toBe(50);
    expect(leastOf({ normalizer: { type: 'NFC' } })).toBe(50);
    expect(leastOf({ normalizer: { type: 'Lowercase' } })).toBe(0);
    expect(leastOf({ added_tokens: [{ id: 95, content: '<mask>', lstrip: true, special: true }] })).toBe(0);
    const removed = { type: 'Split', pattern: { String: 'a' }, behavior: 'Removed', invert: false };
    expect(leastOf({ pre_tokenizer: { type: 'Sequence', pretokenizers: [removed, json.pre_tokenizer] } })).toBe(0);
    expect(leastOf({ pre_tokenizer: { type: 'ByteLevel', add_prefix_space: true } })).toBe(0);
    expect(leastOf({ model: { ...json.model, fuse_unk: true } as never })).toBe(0);
  });
});
