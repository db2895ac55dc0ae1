import { ggufPreTokenizers, gpt2Words } from '@graft/core-model';
import { TokenizerInvalidError, TokenizerUnsupportedError } from './tokenizer-errors.ts';
import type { TokenizerConfigPreTokenizer } from './tokenizer-json.ts';

const byteLevel: TokenizerConfigPreTokenizer = { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: false };

/** The supported values of `tokenizer.ggml.pre`. */
export const supportedPreTokenizers: readonly string[] = Object.keys(ggufPreTokenizers);

/**
 * The rules that a GGUF's `tokenizer.ggml.pre` names.
 * @throws TokenizerUnsupportedError for another name than `supportedPreTokenizers`.
 */
export function preTokenizerRules(pre: string, where: string) {
  const found = Object.hasOwn(ggufPreTokenizers, pre) ? ggufPreTokenizers[pre] : undefined;
  if (found === undefined)
    throw new TokenizerUnsupportedError({ key: 'tokenizer.ggml.pre', value: pre, supported: supportedPreTokenizers, where });
  const { patterns, normalizer, ...rules } = found;
  const preTokenizer: TokenizerConfigPreTokenizer = { type: 'Sequence', pretokenizers: [...patterns.map(isolate), byteLevel] };
  return { ...rules, preTokenizer, normalizer: normalizer === null ? null : { type: normalizer } };
}

/**
 * The same pre-tokenizer in parts that `@huggingface/tokenizers` splits like the published implementation. The library's `Digits` knows only ASCII digits, and its
 * `ByteLevel` uses JavaScript's white space; both become a `Split`, whose pattern it translates faithfully.
 * @throws TokenizerUnsupportedError for a `Split` with a behaviour that the library ignores.
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
  // `invert` says which side is the delimiter. It changes nothing when both sides are kept apart.
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
