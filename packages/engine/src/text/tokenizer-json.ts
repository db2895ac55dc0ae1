import { z } from 'zod';
import { parseAs } from '../json-file.ts';
import { TokenizerInvalidError, TokenizerUnsupportedError } from './tokenizer-errors.ts';

/** The parts of a tokenizer.json that Graft reads. Every other vocabulary is brought into this form. */
export interface TokenizerJson {
  added_tokens: AddedToken[];
  normalizer: TokenizerPart | null;
  pre_tokenizer: TokenizerPart | null;
  post_processor: TokenizerPart | null;
  decoder: TokenizerPart | null;
  model: BpeModel | UnigramModel;
}

/** Byte-pair encoding: token ids, and the pairs to merge in the order of rank. */
export interface BpeModel {
  type: 'BPE';
  vocab: Record<string, number>;
  merges: [string, string][] | string[];
  unk_token?: string | null;
  fuse_unk?: boolean;
  byte_fallback?: boolean;
  ignore_merges?: boolean;
  /** SentencePiece has no merges: the pair that makes the piece with the highest score is merged first. Pieces without a score are never made. */
  scores?: ReadonlyMap<string, number>;
}

/** The likeliest pieces: `vocab` holds each piece and the logarithm of its probability, in the order of the ids. */
export interface UnigramModel {
  type: 'Unigram';
  vocab: [string, number][];
  unk_id: number | null;
  byte_fallback?: boolean;
}

/** A token that is matched in the text before the text is split, such as `<|im_end|>`. */
export interface AddedToken {
  id: number;
  content: string;
  /** Matched only between characters that belong to no word. */
  single_word?: boolean;
  /** White space before it belongs to it. */
  lstrip?: boolean;
  rstrip?: boolean;
  /** Matched in the normalised text. Default: true for a token that is not special. */
  normalized?: boolean;
  /** Skipped when tokens become text. */
  special?: boolean;
}

/** A normalizer, pre-tokenizer, post-processor or decoder. */
export interface TokenizerPart {
  type: string;
  [key: string]: unknown;
}

/** @throws TokenizerUnsupportedError for another model than BPE or Unigram; TokenizerInvalidError when a part is missing or malformed. */
export function parseTokenizerJson(json: unknown, where: string): TokenizerJson {
  const refuse = (what: string, at: string) => new TokenizerInvalidError(what, at);
  const { type } = parseAs(TokenizerKind, json, where, refuse).model;
  if (type !== 'BPE' && type !== 'Unigram') {
    throw new TokenizerUnsupportedError({ key: 'model type', value: type, supported: ['BPE', 'Unigram'], where });
  }
  const file = parseAs(TokenizerJsonFile, json, where, refuse);
  const model: object = type === 'BPE' ? parseAs(BpeFile, file, where, refuse).model : parseAs(UnigramFile, file, where, refuse).model;
  for (const affix of ['continuing_subword_prefix', 'end_of_word_suffix']) {
    const value = file.model[affix] ?? '';
    if (value !== '') throw new TokenizerUnsupportedError({ key: affix, value, supported: ['none'], where });
  }
  return { ...file, model: { ...model, type } } as unknown as TokenizerJson;
}

/** Faster than zod's record, which would copy the vocabulary. */
const isVocabulary = (value: unknown): boolean =>
  typeof value === 'object' && value !== null && Object.values(value).every((id) => Number.isInteger(id) && id >= 0);
const isScoredVocabulary = (value: unknown): boolean =>
  Array.isArray(value) && value.every((entry) => Array.isArray(entry) && typeof entry[0] === 'string' && typeof entry[1] === 'number');

const TokenizerKind = z.looseObject({ model: z.looseObject({ type: z.string().default('BPE') }) });
const Part = z.looseObject({ type: z.string() }).nullable().default(null);
const TokenizerJsonFile = z.looseObject({
  added_tokens: z
    .array(z.looseObject({ id: z.int().nonnegative(), content: z.string().min(1), special: z.boolean().exactOptional() }))
    .default([]),
  normalizer: Part,
  pre_tokenizer: Part,
  post_processor: Part,
  decoder: Part,
  model: z.looseObject({}),
});
const BpeFile = z.looseObject({
  model: z.looseObject({
    vocab: z.custom(isVocabulary, 'must map each token to its id'),
    merges: z.custom((value) => Array.isArray(value), 'must be a list of pairs'),
  }),
});
const UnigramFile = z.looseObject({
  model: z.looseObject({
    vocab: z.custom(isScoredVocabulary, 'must be a list of pieces with their scores'),
    unk_id: z.int().nonnegative().nullable().default(null),
  }),
});
