import { join } from 'node:path';
import { messageOf } from '@graft/common';
import { Tokenizer as HuggingFaceTokenizer } from '@huggingface/tokenizers';
import { z } from 'zod';
import { parseAs, readJsonFile } from '../json-file.ts';
import { LeastTokens, tokensCoverText } from './least-tokens.ts';
import { faithfulPreTokenizer } from './pre-tokenizer.ts';
import { checkTokenId, TokenizerInvalidError, TokenizerUnsupportedError } from './tokenizer-errors.ts';
import type { TokenizerConfigPreTokenizer, TokenizerJson, TokenizerModel } from './tokenizer-json.ts';

/** The text of one token. */
export interface TokenPiece {
  /** UTF-8, possibly part of a character; empty for an id without a token. Read-only. */
  readonly bytes: Uint8Array;
  /** Whether it is a control token such as `<|im_end|>`, which an answer's text leaves out. */
  readonly special: boolean;
}

export interface EncodeOptions {
  /** Whether to add the model's special tokens, such as its beginning token. Default: true. Use false for a rendered chat template, which contains them. */
  addSpecialTokens?: boolean;
}

export interface DecodeOptions {
  /** Default: true. */
  skipSpecialTokens?: boolean;
}

/** Text to token ids and back, for one model. */
export interface Tokenizer {
  /** Each of these ends an answer; empty if the checkpoint names none. */
  readonly eosTokenIds: readonly number[];
  /** The ids of a text. Names of special tokens in it become these tokens. */
  encode(text: string, options?: EncodeOptions): number[];
  /**
   * A lower bound for the number of a text's tokens, up to `limit`; much faster than `encode`. 0 if the text is too short to reach the limit, or if no bound
   * is known.
   */
  leastTokens(text: string, limit: number): number;
  /**
   * The text of ids. Bytes that are not UTF-8 become U+FFFD; an id without a token adds nothing.
   * Spaces before punctuation stay as they are, so that text can be streamed.
   * @throws TokenIdError for an id that is not an integer from 0 up.
   */
  decode(ids: readonly number[], options?: DecodeOptions): string;
  /**
   * The text of one token.
   * @throws TokenIdError for an id that is not an integer from 0 up.
   */
  piece(tokenId: number): TokenPiece;
}

/** A checkpoint's settings next to tokenizer.json. */
export interface TokenizerSettings {
  eosTokenIds: readonly number[];
  /** The file, for errors; `GGUF metadata` if unknown. */
  where: string;
  /** The tokens in the order of their ids, needed if two ids may share a name. */
  tokens?: ArrayLike<string>;
}

/** Reads `tokenizer.json` and, if present, `tokenizer_config.json` from a checkpoint's folder; null without the former. */
export async function readTokenizer(folder: string): Promise<Tokenizer | null> {
  const where = join(folder, 'tokenizer.json');
  const json = await readJsonFile(where, TokenizerKind, invalid);
  if (json === null) return null;
  const named = await readJsonFile(join(folder, 'tokenizer_config.json'), TokenizerConfigFile, invalid);
  const { added_tokens, model } = checkTokenizerJson(json, where);
  const eosToken = named?.eos_token ?? '';
  const eosTokenId = added_tokens.find(({ content }) => content === eosToken)?.id ?? model.vocab[eosToken];
  return createTokenizer(json, { eosTokenIds: eosTokenId === undefined ? [] : [eosTokenId], where });
}

const invalid = (what: string, where: string): TokenizerInvalidError => new TokenizerInvalidError(what, where);

/**
 * A tokenizer from the content of a tokenizer.json.
 * @throws TokenizerUnsupportedError if it is not byte-level BPE.
 */
export function createTokenizer(json: unknown, settings: TokenizerSettings): Tokenizer {
  return new ByteLevelTokenizer(checkTokenizerJson(json, settings.where), settings);
}

class ByteLevelTokenizer implements Tokenizer {
  readonly eosTokenIds: readonly number[];
  private readonly specialTokenIds: ReadonlySet<number>;
  /** One more than the largest id. */
  private readonly vocabSize: number;
  private readonly library: HuggingFaceTokenizer;
  private readonly tokens: ArrayLike<string> | null;
  /** The text of an added token is its name, not its letters read as bytes. */
  private readonly addedTokenIds: ReadonlySet<number>;
  private readonly pieces: TokenPiece[] = [];
  private readonly bounded: boolean;
  private readonly normalizes: boolean;
  private least: LeastTokens | null = null;

  constructor(json: TokenizerJson, settings: TokenizerSettings) {
    this.bounded = tokensCoverText(json);
    this.normalizes = json.normalizer !== null;
    this.library = createLibraryTokenizer(json, settings.where);
    this.tokens = settings.tokens ?? null;
    this.vocabSize = countIds(json, settings);
    this.eosTokenIds = settings.eosTokenIds;
    this.addedTokenIds = new Set(json.added_tokens.map((token) => token.id));
    this.specialTokenIds = new Set(json.added_tokens.filter((token) => token.special).map((token) => token.id));
  }

  encode(text: string, { addSpecialTokens = true }: EncodeOptions = {}): number[] {
    return text === '' && !addSpecialTokens ? [] : this.library.encode(text, { add_special_tokens: addSpecialTokens }).ids;
  }

  leastTokens(text: string, limit: number): number {
    const mostBytes = 3 * text.length;
    if (mostBytes < limit || !this.bounded) return 0;
    this.least ??= new LeastTokens(
      Array.from({ length: this.vocabSize }, (_, id) => this.piece(id).bytes),
      this.normalizes,
    );
    return this.least.count(text, limit);
  }

  decode(ids: readonly number[], { skipSpecialTokens = true }: DecodeOptions = {}): string {
    const bytes: Uint8Array[] = [];
    for (const id of ids) {
      const piece = this.piece(id);
      if (!(skipSpecialTokens && piece.special)) bytes.push(piece.bytes);
    }
    return new TextDecoder('utf-8', { ignoreBOM: true }).decode(Buffer.concat(bytes));
  }

  piece(tokenId: number): TokenPiece {
    checkTokenId(tokenId);
    const known = this.pieces[tokenId];
    if (known !== undefined) return known;
    const token = this.tokens?.[tokenId] ?? this.library.id_to_token(tokenId) ?? null;
    // Not cached: ids without a token are unlimited.
    if (token === null) return noPiece;
    const bytes = this.addedTokenIds.has(tokenId) ? textEncoder.encode(token) : bytesOfToken(token);
    const piece: TokenPiece = { bytes, special: this.specialTokenIds.has(tokenId) };
    this.pieces[tokenId] = piece;
    return piece;
  }
}

const textEncoder = new TextEncoder();
const noPiece: TokenPiece = { bytes: new Uint8Array(0), special: false };

/** Byte-level BPE writes each byte as one printable character: itself where it is printable Latin-1, else the next free one from U+0100 on. */
const byteOfCharacter: ReadonlyMap<string, number> = (() => {
  const bytes = new Map<string, number>();
  let unprintable = 0;
  for (let byte = 0; byte < 256; byte++) {
    const printable = (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
    bytes.set(String.fromCharCode(printable ? byte : 0x100 + unprintable++), byte);
  }
  return bytes;
})();

function bytesOfToken(token: string): Uint8Array {
  const bytes = Uint8Array.from(token, (character) => byteOfCharacter.get(character) ?? 0);
  for (const character of token) {
    // A token written in another alphabet stands for its letters.
    if (!byteOfCharacter.has(character)) return textEncoder.encode(token);
  }
  return bytes;
}

function createLibraryTokenizer(json: TokenizerJson, where: string): HuggingFaceTokenizer {
  const faithful = { ...json, pre_tokenizer: withoutMissingBytes(faithfulPreTokenizer(json.pre_tokenizer, where), json.model) };
  let library: HuggingFaceTokenizer;
  try {
    library = new HuggingFaceTokenizer(faithful, { clean_up_tokenization_spaces: false });
  } catch (error) {
    throw new TokenizerInvalidError(`The tokenizer cannot be built: ${messageOf(error)}.`, where, error);
  }
  // For a missing token around the text, the library would give the id `undefined`, on every text.
  const around = library.encode('');
  const unknown = around.tokens.filter((_: string, i: number) => around.ids[i] === undefined);
  if (unknown.length > 0) throw new TokenizerInvalidError(`The tokenizer puts unknown tokens around a text: ${unknown.join(', ')}.`, where);
  return library;
}

/**
 * Leaves out bytes that the vocabulary lacks (control characters, as a rule). Published tokenizers do so before they merge, so the neighbours can still merge; the
 * library would do so afterwards.
 */
function withoutMissingBytes(preTokenizer: TokenizerConfigPreTokenizer | null, model: TokenizerModel): TokenizerConfigPreTokenizer | null {
  const missing = [...byteOfCharacter.keys()].filter((character) => !Object.hasOwn(model.vocab, character));
  if (preTokenizer === null || missing.length === 0 || (model.unk_token ?? null) !== null) return preTokenizer;
  const anyOf = missing.map((character) => `\\x{${character.charCodeAt(0).toString(16)}}`).join('');
  return { type: 'Sequence', pretokenizers: [preTokenizer, { type: 'Replace', pattern: { Regex: `[${anyOf}]` }, content: '' }] };
}

function countIds(json: TokenizerJson, settings: TokenizerSettings): number {
  let count = settings.tokens?.length ?? 0;
  for (const id of Object.values(json.model.vocab)) if (id >= count) count = id + 1;
  for (const { id } of json.added_tokens) if (id >= count) count = id + 1;
  return count;
}

function checkTokenizerJson(json: unknown, where: string): TokenizerJson {
  const model = parseAs(TokenizerKind, json, where, invalid);
  if (model.model.type !== 'BPE')
    throw new TokenizerUnsupportedError({ key: 'model type', value: model.model.type, supported: ['BPE'], where });
  const decoder = model.decoder;
  const parts = decoder?.type === 'Sequence' ? (decoder.decoders ?? []) : [decoder];
  // `Fuse` joins the rest into one piece, which happens here anyway.
  const byteLevel =
    parts.some((part) => part?.type === 'ByteLevel') && parts.every((part) => part?.type === 'ByteLevel' || part?.type === 'Fuse');
  if (!byteLevel) {
    throw new TokenizerUnsupportedError({
      key: 'decoder',
      value: parts.map((part) => part?.type ?? null).join(', '),
      supported: ['ByteLevel'],
      where,
    });
  }
  const file = parseAs(TokenizerJsonFile, json, where, invalid);
  // The type was checked above. The library checks the parts that only it reads.
  return { ...file, model: { ...file.model, type: 'BPE' } } as unknown as TokenizerJson;
}

/** Faster than zod's record, which would copy the vocabulary. */
const isVocabulary = (value: unknown): boolean =>
  typeof value === 'object' && value !== null && Object.values(value).every((id) => Number.isInteger(id) && id >= 0);

const TokenizerKind = z.looseObject({
  model: z.looseObject({ type: z.string().default('BPE') }),
  decoder: z.looseObject({ type: z.string(), decoders: z.array(z.looseObject({ type: z.string() })).exactOptional() }).nullish(),
});

const TokenizerJsonFile = z.looseObject({
  added_tokens: z
    .array(z.looseObject({ id: z.int().nonnegative(), content: z.string().min(1), special: z.boolean().exactOptional() }))
    .default([]),
  normalizer: z.looseObject({ type: z.string() }).nullable().default(null),
  pre_tokenizer: z.looseObject({ type: z.string() }).nullable().default(null),
  post_processor: z.looseObject({ type: z.string() }).nullable().default(null),
  model: z.looseObject({
    vocab: z.custom(isVocabulary, 'must map each token to its id'),
    merges: z.custom((value) => Array.isArray(value), 'must be a list of pairs'),
  }),
});

const TokenName = z.union([z.string(), z.looseObject({ content: z.string() }).transform((token) => token.content), z.null()]).default(null);
const TokenizerConfigFile = z.looseObject({ bos_token: TokenName, eos_token: TokenName });
