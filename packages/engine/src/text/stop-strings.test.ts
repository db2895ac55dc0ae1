import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { StopStrings } from './stop-strings.ts';

/** Pushes the pieces and flushes; gives all that was emitted and what stopped it. */
function run(stops: readonly string[], pieces: readonly string[]): { text: string; matched: string | null } {
  const stopStrings = new StopStrings(stops);
  let text = '';
  for (const piece of pieces) {
    const { emit, matched } = stopStrings.push(piece);
    text += emit;
    if (matched !== null) return { text, matched };
  }
  return { text: text + stopStrings.flush(), matched: null };
}

/** The same by looking at the whole text: the stop string that ends first, of these the longest. */
function oracle(stops: readonly string[], text: string): { text: string; matched: string | null } {
  for (let end = 1; end <= text.length; end++) {
    const met = stops.filter((stop) => text.slice(0, end).endsWith(stop)).sort((a, b) => b.length - a.length)[0];
    if (met !== undefined) return { text: text.slice(0, end - met.length), matched: met };
  }
  return { text, matched: null };
}

test('emits at once what cannot belong to a stop string', () => {
  const stopStrings = new StopStrings(['\nUser:']);
  expect(stopStrings.push('Hello')).toEqual({ emit: 'Hello', matched: null });
  expect(stopStrings.push(' you\nUs')).toEqual({ emit: ' you', matched: null });
  expect(stopStrings.push('ual')).toEqual({ emit: '\nUsual', matched: null });
});

test('no part of a stop string leaks, in whatever pieces it arrives', () => {
  const stopStrings = new StopStrings(['STOP']);
  expect(['a', 'S', 'T', 'O'].map((piece) => stopStrings.push(piece).emit)).toEqual(['a', '', '', '']);
  expect(stopStrings.push('P and more')).toEqual({ emit: '', matched: 'STOP' });
  expect(stopStrings.push('more')).toEqual({ emit: '', matched: 'STOP' });
  expect(stopStrings.flush()).toBe('');
});

test('flush returns the held text if no stop string followed', () => {
  const stopStrings = new StopStrings(['STOP']);
  stopStrings.push('a STO');
  expect(stopStrings.flush()).toBe('STO');
  expect(stopStrings.push('P')).toEqual({ emit: 'P', matched: null });
});

describe('of several stop strings', () => {
  test.each([
    ['the one that is whole first wins', ['abcd', 'bc'], 'xabcd', { text: 'xa', matched: 'bc' }],
    ['the longest wins among those that end together', ['bc', 'abc'], 'xabcd', { text: 'x', matched: 'abc' }],
    ['one that overlaps itself is found', ['aab'], 'aaab', { text: 'a', matched: 'aab' }],
    ['a failed one does not hide the one inside it', ['abx', 'bc'], 'abc', { text: 'a', matched: 'bc' }],
  ])('%s', (_, stops, text, expected) => {
    expect(run(stops, [...text])).toEqual(expected);
    expect(run(stops, [text])).toEqual(expected);
  });
});

test('without stop strings all text passes', () => {
  expect(run([], ['any', 'thing'])).toEqual({ text: 'anything', matched: null });
});

// Few letters, so that beginnings, overlaps and matches are frequent.
const letters = fc.string({ unit: fc.constantFrom('a', 'b', 'c', '🙂'), maxLength: 30 });
const stops = fc.array(fc.string({ unit: fc.constantFrom('a', 'b', 'c', '🙂'), minLength: 1, maxLength: 5 }), { maxLength: 4 });

test('random pieces give the same result as the whole text', () => {
  fc.assert(
    fc.property(stops, fc.array(letters, { maxLength: 8 }), (strings, pieces) => {
      expect(run(strings, pieces)).toEqual(oracle(strings, pieces.join('')));
    }),
    { numRuns: 1500 },
  );
});

test('never holds back more than the longest suffix that could begin a stop string', () => {
  fc.assert(
    fc.property(stops, letters, (strings, text) => {
      const stopStrings = new StopStrings(strings);
      const { emit, matched } = stopStrings.push(text);
      fc.pre(matched === null);
      const held = text.slice(emit.length);
      const beginnings = strings.flatMap((stop) => Array.from({ length: stop.length }, (_, i) => stop.slice(0, i)));
      const longest = Math.max(0, ...beginnings.filter((beginning) => text.endsWith(beginning)).map((beginning) => beginning.length));
      expect(held).toHaveLength(longest);
    }),
    { numRuns: 500 },
  );
});
