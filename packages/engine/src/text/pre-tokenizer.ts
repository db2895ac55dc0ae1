import { type GgufPreTokenizer, ggufPreTokenizers, gpt2Words } from '@graft/core-model';
import { SequencePreTokenizer } from './library.ts';
import { TokenizerInvalidError, TokenizerUnsupportedError } from './tokenizer-errors.ts';
import type { TokenizerPart } from './tokenizer-json.ts';

/** A word of SentencePiece begins with this character in place of its space. */
export const wordMark = '\u2581';

/**
 * The rules that a GGUF's `tokenizer.ggml.pre` names.
 * @throws TokenizerUnsupportedError for an unknown name.
 */
export function preTokenizerRules(pre: string, where: string): GgufPreTokenizer {
  const found = Object.hasOwn(ggufPreTokenizers, pre) ? ggufPreTokenizers[pre] : undefined;
  if (found !== undefined) return found;
  throw new TokenizerUnsupportedError({ key: 'tokenizer.ggml.pre', value: pre, supported: Object.keys(ggufPreTokenizers), where });
}

/** What `\w` is in Rust's regular expressions, in every dialect. */
export const wordCharacter = String.raw`[\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\u200c\u200d]`;

/** A `Split` whose pieces are the matches of a pattern and the texts between them. */
export const isolate = (pattern: string): TokenizerPart => ({
  type: 'Split',
  pattern: { Regex: pattern },
  behavior: 'Isolated',
  invert: false,
});
/** Only the matches of a pattern are pieces. */
const matches = (pattern: string): TokenizerPart => ({ type: 'Split', pattern: { Regex: pattern }, behavior: 'Removed', invert: true });

export const bytesAsCharacters: TokenizerPart = { type: 'ByteLevel', add_prefix_space: false, use_regex: false };

/** Cuts a section of a text into words. `isFirst`: the text begins with it. */
export type CutWords = (text: string, isFirst: boolean) => string[];

/**
 * The pre-tokenizer of a tokenizer.json.
 * @throws TokenizerUnsupportedError for an unknown type or behaviour.
 */
export function preTokenizerOf(part: TokenizerPart | null, where: string): CutWords {
  if (part === null) return (text) => [text];
  const library = new SequencePreTokenizer({ type: 'Sequence', pretokenizers: faithful(part, where) });
  return (text, isFirst) => library.pre_tokenize_text(text, { section_index: isFirst ? 0 : 1 });
}

/**
 * The same pre-tokenizer in parts that the library splits like the published implementation: as `Split`, whose patterns it translates faithfully. Its other parts know
 * only ASCII digits and letters, take JavaScript's white space, and ignore behaviours.
 */
function faithful(part: TokenizerPart, where: string): TokenizerPart[] {
  switch (part.type) {
    case 'Sequence': {
      const parts = part['pretokenizers'];
      if (!Array.isArray(parts)) throw new TokenizerInvalidError('A pre-tokenizer "Sequence" has no list "pretokenizers".', where);
      return parts.flatMap((step) => faithful(step, where));
    }
    case 'ByteLevel': {
      const prefix =
        part['add_prefix_space'] === true ? [{ type: 'Metaspace', replacement: ' ', str_rep: ' ', prepend_scheme: 'always' }] : [];
      return [...prefix, ...(part['use_regex'] === false ? [] : [isolate(gpt2Words)]), bytesAsCharacters];
    }
    case 'Metaspace': {
      const mark = String(part['replacement'] ?? wordMark);
      const scheme = part['prepend_scheme'] ?? (part['add_prefix_space'] === false ? 'never' : 'always');
      const marked = { type: 'Metaspace', replacement: mark, str_rep: mark, prepend_scheme: scheme };
      return [marked, ...(part['split'] === false ? [] : [split(literal(mark), 'MergedWithNext', false, where)])];
    }
    case 'Digits':
      return [isolate(part['individual_digits'] === true ? String.raw`\p{N}` : String.raw`\p{N}+`)];
    case 'Punctuation':
      return [split(String.raw`[\p{P}!-/:-@\[-\x60{-~]`, String(part['behavior'] ?? 'Isolated'), false, where)];
    case 'Whitespace':
      return [matches(String.raw`${wordCharacter}+|(?:(?!${wordCharacter})\S)+`)];
    case 'WhitespaceSplit':
      return [matches(String.raw`\S+`)];
    case 'BertPreTokenizer':
      return [matches(String.raw`\S+`), isolate(String.raw`[\p{P}!-/:-@\[-\x60{-~]`)];
    case 'Split': {
      const { String: text, Regex: pattern } = (part['pattern'] ?? {}) as { String?: string; Regex?: string };
      return [split(pattern ?? literal(text ?? ''), String(part['behavior']), part['invert'] === true, where)];
    }
    default:
      throw new TokenizerUnsupportedError({ key: 'pre-tokenizer', value: part.type, supported: preTokenizers, where });
  }
}

const preTokenizers = 'Sequence ByteLevel Metaspace Digits Punctuation Whitespace WhitespaceSplit BertPreTokenizer Split'.split(' ');

/** A `Split` of any behaviour by the two that the library has: each becomes a pattern for the pieces themselves. */
function split(pattern: string, behavior: string, invert: boolean, where: string): TokenizerPart {
  const match = `(?:${pattern})`;
  const between = `(?:(?!${match})[\\s\\S])+`;
  const byBehavior: Readonly<Record<string, () => TokenizerPart>> = {
    isolated: () => isolate(pattern), // both sides are kept apart, whichever is the delimiter
    removed: () =>
      invert ? matches(pattern) : { type: 'Split', pattern: { Regex: withoutGroups(pattern) }, behavior: 'Removed', invert: false },
    mergedwithprevious: () => matches(`[\\s\\S]*?${match}|[\\s\\S]+`),
    mergedwithnext: () => matches(`${match}(?:${between})?|${between}`),
    contiguous: () => matches(`${match}+|${between}`),
  };
  const make = byBehavior[behavior.toLowerCase()];
  const isPlain = !invert || ['isolated', 'removed'].includes(behavior.toLowerCase());
  if (make !== undefined && isPlain) return make();
  throw new TokenizerUnsupportedError({
    key: 'a "Split" pre-tokenizer with behavior',
    value: invert ? `${behavior}, inverted` : behavior,
    supported: ['Isolated', 'Removed', 'MergedWithPrevious', 'MergedWithNext', 'Contiguous'],
    where,
  });
}

/** The library keeps what a group captures. */
const withoutGroups = (pattern: string): string =>
  pattern.replace(/\\.|\[(?:\\.|[^\]\\])*\]|\((?!\?)/gs, (part) => (part === '(' ? '(?:' : part));

const literal = (text: string): string => text.replace(/[.*+?^${}()|[\]\\]/g, String.raw`\$&`);
