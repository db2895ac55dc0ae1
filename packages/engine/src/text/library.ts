import * as library from '@huggingface/tokenizers';

interface Parts {
  readonly Unigram: new (config: object, eosToken: string) => { tokenize(word: string): string[] };
  readonly SequencePreTokenizer: new (config: object) => { pre_tokenize_text(text: string, options: { section_index: number }): string[] };
  readonly ReplacePreTokenizer: new (config: object) => { readonly pattern: RegExp | null };
}

/**
 * The parts of `@huggingface/tokenizers` that compute what the published implementation computes. Typed here: its own declarations import files without their
 * extensions, so TypeScript does not find them.
 */
export const { Unigram, SequencePreTokenizer, ReplacePreTokenizer } = library as unknown as Parts;
