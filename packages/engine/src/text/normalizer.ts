import { CharacterMap } from './character-map.ts';
import { ReplacePreTokenizer } from './library.ts';
import { TokenizerUnsupportedError } from './tokenizer-errors.ts';
import type { AddedToken, TokenizerPart } from './tokenizer-json.ts';

/** Normalises one section of a text. `before` is the added token in front of it, null at the start of the text. */
export type Normalize = (text: string, before: AddedToken | null) => string;

/**
 * The normalizer of a tokenizer.json. Not the library's: its `Lowercase` turns a final sigma into another letter, its `Strip` takes JavaScript's white space, its
 * `Precompiled` ignores the table, and its `Replace` reads `$` in the replacement.
 * @throws TokenizerUnsupportedError for an unknown type.
 */
export function normalizerOf(part: TokenizerPart | null, where: string): Normalize {
  if (part === null) return (text) => text;
  switch (part.type) {
    case 'Sequence': {
      const steps = ((part['normalizers'] ?? []) as TokenizerPart[]).map((step) => normalizerOf(step, where));
      return (text, before) => steps.reduce((changed, step) => step(changed, before), text);
    }
    case 'NFC':
    case 'NFD':
    case 'NFKC':
    case 'NFKD': {
      const form = part.type;
      return (text) => text.normalize(form);
    }
    case 'Lowercase':
      return (text) => Array.from(text, (character) => character.toLowerCase()).join('');
    case 'StripAccents':
      return (text) => text.replace(/\p{M}/gu, '');
    case 'Strip': {
      const left = part['strip_left'] !== false;
      const right = part['strip_right'] !== false;
      return (text) => text.slice(left ? spacesAtStart(text, 0) : 0, right ? text.length - spacesAtEnd(text, 0, text.length) : undefined);
    }
    case 'Replace':
      return replacing(part);
    case 'Prepend': {
      const prefix = String(part['prepend']);
      // SentencePiece puts its space at the start of what it is given: a text, or what follows a control token.
      const onlyFresh = part['onlyFresh'] === true;
      return (text, before) => (text === '' || (onlyFresh && before !== null && before.special !== true) ? text : prefix + text);
    }
    case 'Precompiled': {
      const map = new CharacterMap(Buffer.from(String(part['precompiled_charsmap'] ?? ''), 'base64'), where);
      return (text) => map.apply(text);
    }
    default:
      throw new TokenizerUnsupportedError({
        key: 'normalizer',
        value: part.type,
        supported: ['NFC', 'NFD', 'NFKC', 'NFKD', 'Lowercase', 'StripAccents', 'Strip', 'Replace', 'Prepend', 'Precompiled', 'Sequence'],
        where,
      });
  }
}

function replacing(part: TokenizerPart): Normalize {
  const pattern = part['pattern'] as { String?: string; Regex?: string };
  const content = String(part['content'] ?? '');
  const { String: literal } = pattern;
  if (literal !== undefined) return (text) => text.replaceAll(literal, () => content);
  // The library translates the pattern from Oniguruma's language.
  const { pattern: expression } = new ReplacePreTokenizer({ type: 'Replace', pattern, content });
  return (text) => (expression === null ? text : text.replace(expression, () => content));
}

const space = /^\p{White_Space}$/u;
const isSpace = (text: string, place: number): boolean => space.test(text.charAt(place));

/** How many characters of white space follow `from`. */
export function spacesAtStart(text: string, from: number): number {
  let place = from;
  while (place < text.length && isSpace(text, place)) place++;
  return place - from;
}

/** How many characters of white space stand before `to`, down to `from`. */
export function spacesAtEnd(text: string, from: number, to: number): number {
  let place = to;
  while (place > from && isSpace(text, place - 1)) place--;
  return to - place;
}
