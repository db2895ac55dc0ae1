import { join } from 'node:path';
import { z } from 'zod';
import { readJsonFile } from '../json-file.ts';
import { AddedTokens } from './added-tokens.ts';
import { decoderOf, type TokenText } from './decoder.ts';
import { endTokensAmong } from './end-tokens.ts';
import { type LeastTokens, leastTokensOf } from './least-tokens.ts';
import { normalizerOf } from './normalizer.ts';
import { aroundText } from './post-processor.ts';
import { type CutWords, preTokenizerOf } from './pre-tokenizer.ts';
import { readSentencePiece } from './sentence-piece.ts';
import { checkTokenId, TokenizerInvalidError } from './tokenizer-errors.ts';
import { parseTokenizerJson, type TokenizerJson } from './tokenizer-json.ts';
import { WordPieces } from './word-pieces.ts';

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
  /** The ids of a text. Names of special tokens in it become these tokens. A beginning token that the text already has is not added again. */
  encode(text: string, options?: EncodeOptions): number[];
  /**
   * A lower bound for the number of a text's tokens, up to `limit`; much faster than `encode`. 0 if the text is too short to reach the limit, or if no bound
   * is known.
   */
  leastTokens(text: string, limit: number): number;
  /**
   * The text of ids. Bytes that are not UTF-8 become U+FFFD; an id without a token adds nothing.
   * Spaces before punctuation stay as they are, so that text can be streamed. The space that SentencePiece puts before a text is taken away again.
   * @throws TokenIdError for an id that is not an integer from 0 up.
   */
  decode(ids: readonly number[], options?: DecodeOptions): string;
  /**
   * The text of one token.
   * @throws TokenIdError for an id that is not an integer from 0 up.
   */
  piece(tokenId: number): TokenPiece;
}

/** What a checkpoint says of its tokens outside the vocabulary. */
export interface TokenizerSettings {
  /** End tokens besides those that are found by their names. */
  eosTokenIds: readonly number[];
  /** The file, for errors; `GGUF metadata` if unknown. */
  where: string;
  /** The tokens in the order of their ids, needed if two ids may share a name. */
  tokens?: ArrayLike<string>;
}

/**
 * The tokenizer in a checkpoint's folder: `tokenizer.json`, or else `tokenizer.model`, a vocabulary of SentencePiece. `tokenizer_config.json` names the end token. Null
 * without both.
 */
export async function readTokenizer(folder: string): Promise<Tokenizer | null> {
  const named = await readJsonFile(join(folder, 'tokenizer_config.json'), TokenizerConfigFile, invalid);
  let where = join(folder, 'tokenizer.json');
  const file = await readJsonFile(where, z.unknown(), invalid);
  let json = file === null ? null : parseTokenizerJson(file, where);
  if (json === null) {
    where = join(folder, 'tokenizer.model');
    json = await readSentencePiece(where, { addBos: named?.add_bos_token ?? true, addEos: named?.add_eos_token ?? false });
  }
  if (json === null) return null;
  const { added_tokens, model } = json;
  const eosToken = named?.eos_token ?? '';
  const eosTokenId =
    added_tokens.find(({ content }) => content === eosToken)?.id ?? (model.type === 'BPE' ? model.vocab[eosToken] : undefined);
  return new JsonTokenizer(json, { eosTokenIds: eosTokenId === undefined ? [] : [eosTokenId], where });
}

const invalid = (what: string, where: string): TokenizerInvalidError => new TokenizerInvalidError(what, where);

/**
 * A tokenizer from the content of a tokenizer.json.
 * @throws TokenizerUnsupportedError if it is of a kind that Graft does not read.
 */
export function createTokenizer(json: unknown, settings: TokenizerSettings): Tokenizer {
  return new JsonTokenizer(parseTokenizerJson(json, settings.where), settings);
}

export class JsonTokenizer implements Tokenizer {
  readonly eosTokenIds: readonly number[];
  private readonly json: TokenizerJson;
  private readonly added: AddedTokens;
  private readonly cutWords: CutWords;
  private readonly words: WordPieces;
  private readonly text: TokenText;
  private readonly around: { before: readonly number[]; after: readonly number[] };
  /** By id. */
  private readonly names: string[];
  /** Whether each added token is special, by id. */
  private readonly isSpecial: ReadonlyMap<number, boolean>;
  private readonly pieces: TokenPiece[] = [];
  private least: LeastTokens | null | undefined;

  constructor(json: TokenizerJson, { eosTokenIds, where, tokens }: TokenizerSettings) {
    this.json = json;
    this.added = new AddedTokens(json.added_tokens, normalizerOf(json.normalizer, where));
    this.cutWords = preTokenizerOf(json.pre_tokenizer, where);
    this.words = new WordPieces(json.model);
    this.text = decoderOf(json.decoder, where);
    this.names = Array.from(tokens ?? []);
    if (tokens === undefined) for (const [name, id] of this.words.ids) this.names[id] = name;
    for (const { id, content } of json.added_tokens) this.names[id] ??= content;
    this.isSpecial = new Map(json.added_tokens.map(({ id, special }) => [id, special === true]));
    this.around = aroundText(
      json.post_processor,
      new Map([...this.words.ids, ...json.added_tokens.map(({ content, id }) => [content, id] as const)]),
      where,
    );
    this.eosTokenIds = [
      ...new Set([...eosTokenIds, ...endTokensAmong(json.added_tokens.filter(({ special }) => special)).map(({ id }) => id)]),
    ];
  }

  encode(text: string, { addSpecialTokens = true }: EncodeOptions = {}): number[] {
    const ids: number[] = [];
    // Lone surrogates have no UTF-8.
    for (const section of this.added.split(text.replace(/\p{Surrogate}/gu, '\ufffd'))) {
      if ('token' in section) ids.push(section.token.id);
      else for (const word of this.cutWords(section.text, section.before === null)) this.words.append(word, ids);
    }
    if (!addSpecialTokens) return ids;
    const { before, after } = this.around;
    const begins = before.every((id, i) => ids[i] === id);
    return [...(begins ? [] : before), ...ids, ...after];
  }

  leastTokens(text: string, limit: number): number {
    if (3 * text.length < limit) return 0;
    this.least ??= leastTokensOf(this.json, () => Array.from(this.names, (_, id) => this.piece(id).bytes));
    return this.least === null ? 0 : this.least.count(text, limit);
  }

  decode(ids: readonly number[], { skipSpecialTokens = true }: DecodeOptions = {}): string {
    const bytes: Uint8Array[] = [];
    for (const id of ids) {
      const piece = this.piece(id);
      if (!(skipSpecialTokens && piece.special)) bytes.push(piece.bytes);
    }
    const text = new TextDecoder('utf-8', { ignoreBOM: true }).decode(Buffer.concat(bytes));
    let drop = 0;
    while (drop < this.text.dropsSpaces && text[drop] === ' ') drop++;
    return text.slice(drop);
  }

  piece(tokenId: number): TokenPiece {
    checkTokenId(tokenId);
    const known = this.pieces[tokenId];
    if (known !== undefined) return known;
    const name = this.names[tokenId];
    // Not cached: ids without a token are unlimited.
    if (name === undefined) return noPiece;
    const special = this.isSpecial.get(tokenId);
    const piece: TokenPiece = { bytes: special === undefined ? this.text.bytes(name) : this.text.added(name), special: special === true };
    this.pieces[tokenId] = piece;
    return piece;
  }
}

const noPiece: TokenPiece = { bytes: new Uint8Array(0), special: false };

const TokenName = z.union([z.string(), z.looseObject({ content: z.string() }).transform((token) => token.content), z.null()]).default(null);
const TokenizerConfigFile = z.looseObject({
  eos_token: TokenName,
  add_bos_token: z.boolean().nullish(),
  add_eos_token: z.boolean().nullish(),
});
