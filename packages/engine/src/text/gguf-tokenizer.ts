import { ggufTokenTakesSpace, ggufVocabularies } from '@graft/core-model';
import { isEndName } from './end-tokens.ts';
import { bytesAsCharacters, isolate, preTokenizerRules, wordMark } from './pre-tokenizer.ts';
import { addedTokens, aroundTokens, idsByName, pieceType, sentencePieceJson } from './sentence-piece.ts';
import { JsonTokenizer, type Tokenizer } from './tokenizer.ts';
import { TokenizerInvalidError, TokenizerUnsupportedError } from './tokenizer-errors.ts';
import type { TokenizerJson } from './tokenizer-json.ts';

/** A GGUF's key-value pairs; integers may be numbers or bigints, lists arrays or typed arrays. */
export type GgufMetadata = ReadonlyMap<string, unknown>;

/**
 * The tokenizer of a GGUF file: its vocabulary in the form of a tokenizer.json.
 * @param metadata the keys `tokenizer.ggml.model`, `.tokens`, `.merges` or `.scores`, and optionally `.pre`, `.token_type`, `.bos_token_id`, `.eos_token_id`,
 * `.eot_token_id`, `.eom_token_id`, `.add_bos_token`, `.add_eos_token`, `.add_space_prefix`, `.remove_extra_whitespaces`, `.precompiled_charsmap`. A missing one is
 * taken as GGUF's own runtime takes it.
 * @param where the file, for errors.
 * @throws TokenizerUnsupportedError for another model or an unknown `pre`; TokenizerInvalidError when a key is missing or malformed.
 */
export function tokenizerFromGguf(metadata: GgufMetadata, where = 'GGUF metadata'): Tokenizer {
  const keys = new TokenizerKeys(metadata, where);
  const model = keys.get('model');
  const read = typeof model === 'string' && Object.hasOwn(ggufVocabularies, model) ? ggufVocabularies[model] : undefined;
  if (read === undefined)
    throw new TokenizerUnsupportedError({ key: 'tokenizer.ggml.model', value: model, supported: Object.keys(ggufVocabularies), where });
  const tokens = keys.list('tokens', isString);
  const json =
    read.kind === 'merges' ? merged(keys, tokens, read.pre ?? keys.string('pre', 'default')) : scored(keys, tokens, read.algorithm);
  const modelName = String(metadata.get('general.name') ?? '');
  for (const token of json.added_tokens) token.rstrip = ggufTokenTakesSpace(modelName, token.content);
  const endIds = ['eos_token_id', 'eot_token_id', 'eom_token_id'].map((name) => keys.tokenId(name, tokens.length));
  return new JsonTokenizer(json, { eosTokenIds: endIds.filter((id) => id !== null), where, tokens });
}

/** Byte-pair encoding with merges. */
function merged(keys: TokenizerKeys, tokens: ArrayLike<string>, pre: string): TokenizerJson {
  // GGUF's own runtime normalises nothing, although some of these models were published with NFC.
  const { patterns, ignoreMerges, addBos, alphabet } = preTokenizerRules(pre, keys.where);
  const isBytes = alphabet === 'bytes';
  const spaces = { type: 'Replace', pattern: { String: ' ' }, content: wordMark };
  const letters = { type: 'Sequence', decoders: [{ ...spaces, pattern: { String: wordMark }, content: ' ' }, { type: 'ByteFallback' }] };
  return {
    added_tokens: addedTokens(piecesOf(keys, tokens)),
    normalizer: isBytes ? null : spaces,
    pre_tokenizer: { type: 'Sequence', pretokenizers: [...patterns.map(isolate), ...(isBytes ? [bytesAsCharacters] : [])] },
    post_processor: aroundTokens(...keys.around(tokens, { addBos, bosId: null, addEos: false, eosId: null })),
    decoder: isBytes ? { type: 'ByteLevel' } : letters,
    model: { type: 'BPE', ignore_merges: ignoreMerges, byte_fallback: !isBytes, vocab: idsByName(tokens), merges: mergesOf(keys) },
  };
}

function mergesOf(keys: TokenizerKeys): [string, string][] {
  return Array.from(keys.list('merges', isString), (merge, rank): [string, string] => {
    // The first character may itself be a space.
    const space = merge.indexOf(' ', 1);
    if (space < 0 || space === merge.length - 1) {
      throw new TokenizerInvalidError(
        `tokenizer.ggml.merges[${rank}] is ${JSON.stringify(merge)}, not two parts with a space between.`,
        keys.where,
      );
    }
    return [merge.slice(0, space), merge.slice(space + 1)];
  });
}

/** SentencePiece. */
function scored(keys: TokenizerKeys, tokens: ArrayLike<string>, algorithm: 'bpe' | 'unigram'): TokenizerJson {
  const isBpe = algorithm === 'bpe';
  const scores = keys.list('scores', isNumber);
  if (scores.length !== tokens.length)
    throw new TokenizerInvalidError(`tokenizer.ggml.scores has ${scores.length} entries for ${tokens.length} tokens.`, keys.where);
  const [begins, ends] = keys.around(tokens, { addBos: isBpe, bosId: isBpe ? 1 : null, addEos: !isBpe, eosId: isBpe ? 2 : 1 });
  return sentencePieceJson({
    algorithm,
    pieces: piecesOf(keys, tokens).map((piece, id) => ({ ...piece, score: Number(scores[id]) })),
    addsSpace: keys.boolean('add_space_prefix', isBpe),
    normalizesUserDefined: false,
    removesExtraSpaces: keys.boolean('remove_extra_whitespaces', false),
    characterMap:
      keys.get('precompiled_charsmap') === undefined
        ? new Uint8Array(0)
        : Uint8Array.from(keys.list('precompiled_charsmap', isInteger), Number),
    begins,
    ends,
  });
}

function piecesOf(keys: TokenizerKeys, tokens: ArrayLike<string>): { text: string; type: number }[] {
  const types = keys.get('token_type') === undefined ? null : keys.list('token_type', isInteger);
  if (types !== null && types.length !== tokens.length) {
    throw new TokenizerInvalidError(`tokenizer.ggml.token_type has ${types.length} entries for ${tokens.length} tokens.`, keys.where);
  }
  // Some files mark end tokens as ordinary ones.
  return Array.from(tokens, (text, id) => ({ text, type: isEndName(text) ? pieceType.control : Number(types?.[id] ?? pieceType.normal) }));
}

const isString = (value: unknown): value is string => typeof value === 'string';
const isNumber = (value: unknown): value is number => typeof value === 'number';
const isInteger = (value: unknown): value is number | bigint => typeof value === 'bigint' || Number.isInteger(value);

/** Reads and checks the keys under `tokenizer.ggml.`. */
class TokenizerKeys {
  readonly where: string;
  private readonly metadata: GgufMetadata;

  constructor(metadata: GgufMetadata, where: string) {
    this.metadata = metadata;
    this.where = where;
  }

  get(name: string): unknown {
    return this.metadata.get(`tokenizer.ggml.${name}`);
  }

  string(name: string, otherwise: string): string {
    const value = this.get(name) ?? otherwise;
    return isString(value) ? value : this.refuse(name, 'is not a string');
  }

  boolean(name: string, otherwise: boolean): boolean {
    const value = this.get(name) ?? otherwise;
    return typeof value === 'boolean' ? value : this.refuse(name, 'is neither true nor false');
  }

  list<Item>(name: string, isItem: (value: unknown) => value is Item): ArrayLike<Item> {
    const value = this.get(name);
    if (value === undefined) return this.refuse(name, 'is missing');
    if (!Array.isArray(value) && !ArrayBuffer.isView(value)) return this.refuse(name, 'is not a list');
    const list = value as unknown as ArrayLike<unknown>;
    for (let i = 0; i < list.length; i++) {
      if (!isItem(list[i])) return this.refuse(name, `has the entry ${String(list[i])} at ${i}, of the wrong type`);
    }
    return list as ArrayLike<Item>;
  }

  tokenId(name: string, vocabSize: number): number | null {
    const value = this.get(name);
    if (value === undefined) return null;
    const id = isInteger(value) ? Number(value) : -1;
    return id >= 0 && id < vocabSize ? id : this.refuse(name, `is ${String(value)}, not an id of a vocabulary of ${vocabSize}`);
  }

  /** Names of the tokens before and after a text; null for none. The defaults are for keys that the file leaves out. */
  around(
    tokens: ArrayLike<string>,
    { addBos, bosId, addEos, eosId }: { addBos: boolean; bosId: number | null; addEos: boolean; eosId: number | null },
  ): [begins: string | null, ends: string | null] {
    const named = (added: boolean, key: string, otherwise: number | null) =>
      added ? (tokens[this.tokenId(key, tokens.length) ?? otherwise ?? -1] ?? null) : null;
    return [
      named(this.boolean('add_bos_token', addBos), 'bos_token_id', bosId),
      named(this.boolean('add_eos_token', addEos), 'eos_token_id', eosId),
    ];
  }

  private refuse(name: string, why: string): never {
    throw new TokenizerInvalidError(`tokenizer.ggml.${name} ${why}.`, this.where);
  }
}
