import fc from 'fast-check';
import { expect, test } from 'vitest';
import { ggufTokenizerMetadata } from '../../../../tests/fixtures/smollm2/load.ts';
import { Detokenizer } from './detokenizer.ts';
import { tokenizerFromGguf } from './gguf-tokenizer.ts';

const tokenizer = tokenizerFromGguf(ggufTokenizerMetadata());
const family = tokenizer.encode('👩‍👩‍👧');

function stream(ids: readonly number[], options?: { skipSpecialTokens?: boolean }): string[] {
  const detokenizer = new Detokenizer(tokenizer, options);
  return [...ids.map((id) => detokenizer.push(id)), detokenizer.flush()];
}

test('holds a character back until all of its tokens have come', () => {
  const texts = stream(family);
  expect(texts.join('')).toBe('👩‍👩‍👧');
  // Thirteen tokens for five code points, three of which are emoji.
  expect(texts.filter((text) => text !== '')).toEqual(['👩', '\u200d', '👩', '\u200d', '👧']);
});

test('gives U+FFFD at the end for an incomplete character', () => {
  const texts = stream(family.slice(0, 2));
  expect(texts.slice(0, -1).join('')).toBe('');
  expect(texts.at(-1)).toBe('\ufffd');
});

test('can begin again after flush', () => {
  const detokenizer = new Detokenizer(tokenizer);
  detokenizer.push(family[0]!);
  expect(detokenizer.flush()).toBe('\ufffd');
  expect(family.map((id) => detokenizer.push(id)).join('') + detokenizer.flush()).toBe('👩‍👩‍👧');
});

test('skips special tokens by default, even in the middle of a character', () => {
  const ids = [...family.slice(0, 2), 2, ...family.slice(2)];
  expect(stream(ids).join('')).toBe('👩‍👩‍👧');
  expect(stream([1, 4093, 2]).join('')).toBe('user');
  expect(stream([1, 4093, 2], { skipSpecialTokens: false }).join('')).toBe('<|im_start|>user<|im_end|>');
});

test('keeps a byte order mark wherever it stands', () => {
  const ids = tokenizer.encode('\ufeffa\ufeff');
  expect(stream(ids).join('')).toBe('\ufeffa\ufeff');
});

// Half of the ids are parts of emoji, so that broken characters abound.
const anyId = fc.oneof(fc.integer({ min: 0, max: 49152 + 10 }), fc.constantFrom(...family, ...tokenizer.encode('🙂漢é')));

test('its texts together equal decode of all ids, and never split a code point', () => {
  fc.assert(
    fc.property(fc.array(anyId, { maxLength: 60 }), fc.boolean(), (ids, skipSpecialTokens) => {
      const texts = stream(ids, { skipSpecialTokens });
      expect(texts.join('')).toBe(tokenizer.decode(ids, { skipSpecialTokens }));
      expect(texts.filter((text) => /\p{Surrogate}/u.test(text))).toEqual([]);
    }),
    { numRuns: 500 },
  );
});

test('emitted text stays right, whatever follows', () => {
  fc.assert(
    fc.property(fc.array(anyId, { maxLength: 30 }), fc.array(anyId, { maxLength: 10 }), (ids, more) => {
      const sofar = stream(ids).slice(0, -1).join('');
      expect(tokenizer.decode([...ids, ...more]).startsWith(sofar)).toBe(true);
    }),
    { numRuns: 500 },
  );
});
