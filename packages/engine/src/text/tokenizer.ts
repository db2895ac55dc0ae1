import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { messageOf } from '@graft/common';
import { Tokenizer as HuggingFaceTokenizer } from '@huggingface/tokenizers';
import { z } from 'zod';
import { LeastTokens, tokensCoverText } from './least-tokens.ts';
import { faithfulPreTokenizer } from './pre-tokenizer.ts';
import { checkTokenId, TokenizerInvalidError, TokenizerMissingError, TokenizerUnsupportedError } from './tokenizer-errors.ts';
import type { TokenizerConfigPreTokenizer, TokenizerJson, TokenizerModel } from './tokenizer-json.ts';

/** What one token contributes to the text. */
export interface TokenPiece {
  /** UTF-8, possibly a part of one character only; empty for an id that has no token. Not to be modified. */
  readonly bytes: Uint8Array;
  /** A control token as `<|im_end|>`, which is not part of an answer's text. */
  readonly special: boolean;
}

export interface EncodeOptions {
  /** Whether to put the tokens around the text that the model expects (its beginning token). Default: true; false for a rendered chat template, which has them. */
  addSpecialTokens?: boolean;
}

export interface DecodeOptions {
  /** Default: true. */
  skipSpecialTokens?: boolean;
}

/** Text to token ids and back, for one model. */
export interface Tokenizer {
  /** One more than the largest id. A model's logits may be wider, padded with ids that have no token. */
  readonly vocabSize: number;
  readonly bosTokenId: number | null;
  /** Each of these ends an answer; empty where the checkpoint names none. */
  readonly eosTokenIds: readonly number[];
  readonly specialTokenIds: ReadonlySet<number>;
  /** The ids of a text; the names of special tokens in it become these tokens. */
  encode(text: string, options?: EncodeOptions): number[];
  /**
   * A number that the tokens of a text are never fewer than, counted up to `limit`, much quicker than `encode`: 0 where the text is too short to reach
   * the limit, or where nothing is known.
   */
  leastTokens(text: string, limit: number): number;
  /**
   * The text of ids. Bytes that are not UTF-8 become U+FFFD; an id without a token contributes nothing.
   * Spaces before punctuation stay as they are, so that text can be streamed.
   * @throws TokenIdError for an id that is not an integer from 0 up.
   */
  decode(ids: readonly number[], options?: DecodeOptions): string;
  /**
   * What one token contributes to the text.
   * @throws TokenIdError for an id that is not an integer from 0 up.
   */
  piece(tokenId: number): TokenPiece;
  /** The token as the vocabulary writes it (a space as `Ġ`), or null for an id without one. */
  tokenOf(tokenId: number): string | null;
  /** The inverse of `tokenOf`, or null. */
  idOf(token: string): number | null;
}

/** What a checkpoint says about its tokenizer beside tokenizer.json. */
export interface TokenizerSettings {
  bosTokenId: number | null;
  eosTokenIds: readonly number[];
  /** Where it comes from, for errors: a file or `GGUF metadata`. */
  where: string;
  /** The tokens in the order of their ids, where that says more than the vocabulary (two ids may share a name). */
  tokens?: ArrayLike<string>;
}

/** Reads `tokenizer.json`, and beside it `tokenizer_config.json` and `generation_config.json` where they are, from a checkpoint's folder. */
export async function readTokenizer(folder: string): Promise<Tokenizer> {
  const where = join(folder, 'tokenizer.json');
  const json = await readJson(where);
  if (json === undefined) throw new TokenizerMissingError(folder);
  const named = parsed(
    TokenizerConfigFile,
    (await readJson(join(folder, 'tokenizer_config.json'))) ?? {},
    join(folder, 'tokenizer_config.json'),
  );
  const generation = parsed(
    GenerationConfigFile,
    (await readJson(join(folder, 'generation_config.json'))) ?? {},
    join(folder, 'generation_config.json'),
  );
  const tokenizerJson = checkTokenizerJson(json, where);
  const idOf = (token: string | null): number | null =>
    token === null
      ? null
      : (tokenizerJson.added_tokens.find((added) => added.content === token)?.id ?? tokenizerJson.model.vocab[token] ?? null);
  const eosTokenId = idOf(named.eos_token);
  const eosTokenIds = new Set([...(eosTokenId === null ? [] : [eosTokenId]), ...generation.eos_token_id]);
  return createTokenizer(tokenizerJson, { bosTokenId: idOf(named.bos_token), eosTokenIds: [...eosTokenIds], where });
}

/**
 * A tokenizer from the content of a tokenizer.json.
 * @throws TokenizerUnsupportedError when it is not byte-level BPE.
 */
export function createTokenizer(json: unknown, settings: TokenizerSettings): Tokenizer {
  return new ByteLevelTokenizer(checkTokenizerJson(json, settings.where), settings);
}

class ByteLevelTokenizer implements Tokenizer {
  readonly vocabSize: number;
  readonly bosTokenId: number | null;
  readonly eosTokenIds: readonly number[];
  readonly specialTokenIds: ReadonlySet<number>;
  private readonly library: HuggingFaceTokenizer;
  private readonly tokens: ArrayLike<string> | null;
  /** The text of an added token is its name, not the name's letters read as bytes. */
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
    this.bosTokenId = settings.bosTokenId;
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
    const token = this.tokenOf(tokenId);
    // Not kept: the ids without a token have no end.
    if (token === null) return noPiece;
    const bytes = this.addedTokenIds.has(tokenId) ? textEncoder.encode(token) : bytesOfToken(token);
    const piece: TokenPiece = { bytes, special: this.specialTokenIds.has(tokenId) };
    this.pieces[tokenId] = piece;
    return piece;
  }

  tokenOf(tokenId: number): string | null {
    return this.tokens?.[tokenId] ?? this.library.id_to_token(tokenId) ?? null;
  }

  idOf(token: string): number | null {
    return this.library.token_to_id(token) ?? null;
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
    // A token that is not written in this alphabet stands for its own letters.
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
  // The library would give `undefined` as an id, on every text.
  const around = library.encode('');
  const unknown = around.tokens.filter((_: string, i: number) => around.ids[i] === undefined);
  if (unknown.length > 0)
    throw new TokenizerInvalidError(`The tokenizer puts tokens around a text that it does not have: ${unknown.join(', ')}.`, where);
  return library;
}

/**
 * A vocabulary may lack a few bytes (control characters, as a rule). Published tokenizers leave them out before they merge, so that their
 * neighbours can still meet; the library would leave them out after.
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
  const model = parsed(TokenizerKind, json, where);
  if (model.model.type !== 'BPE')
    throw new TokenizerUnsupportedError({ key: 'model type', value: model.model.type, supported: ['BPE'], where });
  const decoder = model.decoder;
  const parts = decoder?.type === 'Sequence' ? (decoder.decoders ?? []) : [decoder];
  // `Fuse` joins what is left into one piece, which we do in any case.
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
  const file = parsed(TokenizerJsonFile, json, where);
  // Checked above; the types of the parts that only the library reads are the library's concern.
  return { ...file, model: { ...file.model, type: 'BPE' } } as unknown as TokenizerJson;
}

/** Zod's record would copy the vocabulary and take longer than all else here. */
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
const GenerationConfigFile = z.looseObject({
  eos_token_id: z
    .union([
      z.array(z.int().nonnegative()),
      z
        .int()
        .nonnegative()
        .transform((id) => [id]),
      z.null().transform((): number[] => []),
    ])
    .default([]),
});

function parsed<Output>(schema: z.ZodType<Output>, value: unknown, where: string): Output {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  const issue = result.error.issues[0];
  const key = issue === undefined || issue.path.length === 0 ? 'the whole file' : `"${issue.path.join('.')}"`;
  throw new TokenizerInvalidError(`The tokenizer's ${key} is wrong: ${issue?.message ?? result.error.message}.`, where);
}

/** The file's content, or undefined where there is no such file. */
async function readJson(file: string): Promise<unknown> {
  let text: string;
  try {
    text = await readFile(file, 'utf8');
  } catch (error) {
    if (error instanceof Error && 'code' in error && error.code === 'ENOENT') return undefined;
    throw new TokenizerInvalidError(`The file cannot be read: ${messageOf(error)}.`, file, error);
  }
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new TokenizerInvalidError(`The file is not JSON: ${messageOf(error)}.`, file, error);
  }
}
