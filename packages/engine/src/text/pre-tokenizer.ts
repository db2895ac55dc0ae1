import { TokenizerInvalidError, TokenizerUnsupportedError } from './tokenizer-errors.ts';
import type { TokenizerConfigNormalizer, TokenizerConfigPreTokenizer } from './tokenizer-json.ts';

/** How text is cut before byte-pair merging, and what goes with it, for one value of `tokenizer.ggml.pre`. */
export interface PreTokenizerRules {
  preTokenizer: TokenizerConfigPreTokenizer;
  normalizer: TokenizerConfigNormalizer | null;
  /** A whole piece that is in the vocabulary is one token, whatever the merges say. */
  ignoreMerges: boolean;
  /** Whether the model expects its beginning token where the GGUF does not say. */
  addBos: boolean;
}

const byteLevel: TokenizerConfigPreTokenizer = { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: false };

const gpt2Words = String.raw`'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`;
const contractions = "(?i:'s|'t|'re|'ve|'m|'ll|'d)";
const spaces = String.raw`\s*[\r\n]+|\s+(?!\S)|\s+`;
const llama3Words = String.raw`${contractions}|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|${spaces}`;
const qwen2Words = String.raw`${contractions}|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|${spaces}`;
// A word in lower case with its capital, or one in capitals; `upper` and `lower` both hold the letters without case.
const upper = String.raw`[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]`;
const lower = String.raw`[\p{Ll}\p{Lm}\p{Lo}\p{M}]`;
const llama4Words = [
  String.raw`[^\r\n\p{L}\p{N}]?${upper}*${lower}+${contractions}?`,
  String.raw`[^\r\n\p{L}\p{N}]?${upper}+${lower}*${contractions}?`,
  String.raw`\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|${spaces}`,
].join('|');

const byPre: Record<string, PreTokenizerRules> = {
  smollm: rules([String.raw`\p{N}`, gpt2Words]),
  'gpt-2': rules([gpt2Words]),
  'llama-bpe': rules([llama3Words], { ignoreMerges: true, addBos: true }),
  llama4: rules([llama4Words], { ignoreMerges: true, addBos: true }),
  qwen2: rules([qwen2Words], { normalizer: { type: 'NFC' } }),
  default: rules([String.raw`[\p{P}\$\+<=>\^~\|]+`, gpt2Words, String.raw`\p{N}+`, '[0-9][0-9][0-9]']),
};

/** The values of `tokenizer.ggml.pre` that Graft knows. */
export const supportedPreTokenizers: readonly string[] = Object.keys(byPre);

/**
 * The rules that a GGUF's `tokenizer.ggml.pre` names.
 * @throws TokenizerUnsupportedError for a name that is not one of `supportedPreTokenizers`.
 */
export function preTokenizerRules(pre: string, where: string): PreTokenizerRules {
  const found = Object.hasOwn(byPre, pre) ? byPre[pre] : undefined;
  if (found === undefined)
    throw new TokenizerUnsupportedError({ key: 'tokenizer.ggml.pre', value: pre, supported: supportedPreTokenizers, where });
  return found;
}

/**
 * The same pre-tokenizer in parts that `@huggingface/tokenizers` cuts as the published implementation does. In the library `Digits` knows only
 * ASCII digits and `ByteLevel` uses JavaScript's idea of white space, whereas its `Split` translates a pattern faithfully; so both become a `Split`.
 * @throws TokenizerUnsupportedError for a `Split` whose behaviour the library would ignore.
 */
export function faithfulPreTokenizer(node: TokenizerConfigPreTokenizer | null, where: string): TokenizerConfigPreTokenizer | null {
  if (node === null) return null;
  if (node.type === 'Sequence') {
    if (!Array.isArray(node.pretokenizers))
      throw new TokenizerInvalidError('A pre-tokenizer "Sequence" has no list "pretokenizers".', where);
    return {
      type: 'Sequence',
      pretokenizers: node.pretokenizers.map((part) => faithfulPreTokenizer(part, where)).filter((part) => part !== null),
    };
  }
  if (node.type === 'Digits') return isolate(node.individual_digits === true ? String.raw`\p{N}` : String.raw`\p{N}+`);
  if (node.type === 'ByteLevel' && node.use_regex !== false && node.add_prefix_space !== true) {
    return { type: 'Sequence', pretokenizers: [isolate(gpt2Words), byteLevel] };
  }
  if (node.type === 'Split') return checkedSplit(node, where);
  return node;
}

function checkedSplit(node: TokenizerConfigPreTokenizer & { type: 'Split' }, where: string): TokenizerConfigPreTokenizer {
  // Inverting says which side is the delimiter; when both sides stay and stand alone it changes nothing.
  if (node.behavior === 'Isolated') return { ...node, invert: false };
  if (node.behavior === 'Removed') return { ...node, invert: node.invert ?? false };
  throw new TokenizerUnsupportedError({
    key: 'a "Split" pre-tokenizer with behavior',
    value: node.behavior,
    supported: ['Isolated', 'Removed'],
    where,
  });
}

function isolate(pattern: string): TokenizerConfigPreTokenizer {
  return { type: 'Split', pattern: { Regex: pattern }, behavior: 'Isolated', invert: false };
}

function rules(patterns: string[], more: Partial<PreTokenizerRules> = {}): PreTokenizerRules {
  const preTokenizer: TokenizerConfigPreTokenizer = { type: 'Sequence', pretokenizers: [...patterns.map(isolate), byteLevel] };
  return { preTokenizer, normalizer: null, ignoreMerges: false, addBos: false, ...more };
}
