/** The parts of a tokenizer.json that Graft reads or writes. Other keys are kept unchanged. */
export interface TokenizerJson {
  version?: string;
  added_tokens: AddedToken[];
  normalizer: { type: string } | null;
  pre_tokenizer: TokenizerConfigPreTokenizer | null;
  post_processor: TokenizerConfigPostProcessor | null;
  decoder: { type: string; decoders?: { type: string }[] } | null;
  model: TokenizerModel;
}

/** Byte-pair encoding: token ids, and the pairs to merge in the order of rank. */
export interface TokenizerModel {
  type: 'BPE';
  unk_token: string | null;
  ignore_merges: boolean;
  vocab: Record<string, number>;
  merges: [string, string][] | string[];
}

/** A token that is matched in the text before the text is split, such as `<|im_end|>`. */
export interface AddedToken {
  id: number;
  content: string;
  single_word?: boolean;
  lstrip?: boolean;
  rstrip?: boolean;
  normalized?: boolean;
  /** Skipped when tokens become text. */
  special?: boolean;
}

export type TokenizerConfigPreTokenizer =
  | { type: 'Sequence'; pretokenizers: TokenizerConfigPreTokenizer[] }
  | { type: 'Digits'; individual_digits?: boolean }
  | { type: 'ByteLevel'; add_prefix_space?: boolean; trim_offsets?: boolean; use_regex?: boolean }
  | { type: 'Split'; pattern: { Regex?: string; String?: string }; behavior?: string; invert?: boolean }
  | { type: 'Replace'; pattern: { Regex?: string; String?: string }; content: string };

/** Tokens around a text: `single` lists them and the text in order. */
export interface TokenizerConfigPostProcessor {
  type: string;
  single?: TemplateItem[];
  pair?: TemplateItem[];
}

export type TemplateItem = { SpecialToken: { id: string; type_id: number } } | { Sequence: { id: 'A' | 'B'; type_id: number } };
