import { preTokenizerRules } from './pre-tokenizer.ts';
import { createTokenizer, type Tokenizer } from './tokenizer.ts';
import { TokenizerInvalidError, TokenizerUnsupportedError } from './tokenizer-errors.ts';
import type { AddedToken, TemplateItem, TokenizerConfigPostProcessor, TokenizerJson } from './tokenizer-json.ts';

/** A GGUF's key-value pairs; integers may be numbers or bigints, lists arrays or typed arrays. */
export type GgufMetadata = ReadonlyMap<string, unknown>;

/** `tokenizer.ggml.token_type` by number. Only these are matched whole in a text; normal tokens (1), unused ones (5) and bytes (6) are not. */
const tokenType = { unknown: 2, control: 3, userDefined: 4 } as const;

/**
 * The tokenizer of a GGUF file: its vocabulary and merges in the form of a tokenizer.json.
 * @param metadata the keys `tokenizer.ggml.model` (`gpt2`), `.pre`, `.tokens`, `.merges`, and optionally `.token_type`, `.bos_token_id`,
 * `.eos_token_id`, `.eot_token_id`, `.eom_token_id`, `.add_bos_token`, `.add_eos_token`.
 * @param where the file, for errors.
 * @throws TokenizerUnsupportedError for another model or an unknown `pre`; TokenizerInvalidError when a key is missing or malformed.
 */
export function tokenizerFromGguf(metadata: GgufMetadata, where = 'GGUF metadata'): Tokenizer {
  const keys = new TokenizerKeys(metadata, where);
  const tokens = keys.list('tokens', isString);
  const bosTokenId = keys.tokenId('bos_token_id', tokens.length);
  const eosTokenId = keys.tokenId('eos_token_id', tokens.length);
  const endIds = [eosTokenId, keys.tokenId('eot_token_id', tokens.length), keys.tokenId('eom_token_id', tokens.length)];
  const eosTokenIds = [...new Set(endIds.filter((id) => id !== null))];
  return createTokenizer(tokenizerJsonOf(keys, tokens, bosTokenId, eosTokenId), { eosTokenIds, where, tokens });
}

function tokenizerJsonOf(
  keys: TokenizerKeys,
  tokens: ArrayLike<string>,
  bosTokenId: number | null,
  eosTokenId: number | null,
): TokenizerJson {
  const model = keys.get('model');
  if (model !== 'gpt2')
    throw new TokenizerUnsupportedError({ key: 'tokenizer.ggml.model', value: model, supported: ['gpt2'], where: keys.where });
  const rules = preTokenizerRules(keys.string('pre', 'default'), keys.where);
  const bos = keys.boolean('add_bos_token', rules.addBos) && bosTokenId !== null ? (tokens[bosTokenId] ?? null) : null;
  const eos = keys.boolean('add_eos_token', false) && eosTokenId !== null ? (tokens[eosTokenId] ?? null) : null;
  return {
    version: '1.0',
    added_tokens: addedTokensOf(keys, tokens),
    normalizer: rules.normalizer,
    pre_tokenizer: rules.preTokenizer,
    post_processor: around(bos, eos),
    decoder: { type: 'ByteLevel' },
    model: { type: 'BPE', unk_token: null, ignore_merges: rules.ignoreMerges, vocab: vocabularyOf(tokens), merges: mergesOf(keys) },
  };
}

function vocabularyOf(tokens: ArrayLike<string>): Record<string, number> {
  // Without a prototype: "__proto__" may be a token.
  const vocabulary: Record<string, number> = Object.create(null);
  // Backwards: of two ids with the same name, text becomes the first.
  for (let id = tokens.length - 1; id >= 0; id--) vocabulary[tokens[id]!] = id;
  return vocabulary;
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

function addedTokensOf(keys: TokenizerKeys, tokens: ArrayLike<string>): AddedToken[] {
  if (keys.get('token_type') === undefined) return [];
  const types = keys.list('token_type', isInteger);
  if (types.length !== tokens.length) {
    throw new TokenizerInvalidError(`tokenizer.ggml.token_type has ${types.length} entries for ${tokens.length} tokens.`, keys.where);
  }
  const added: AddedToken[] = [];
  for (let id = 0; id < tokens.length; id++) {
    const type = Number(types[id]);
    const special = type === tokenType.control || type === tokenType.unknown;
    const content = tokens[id]!;
    if ((special || type === tokenType.userDefined) && content !== '') added.push({ id, content, normalized: false, special });
  }
  return added;
}

/** The beginning and end tokens around a text, by name; null if both are null. */
function around(bos: string | null, eos: string | null): TokenizerConfigPostProcessor | null {
  if (bos === null && eos === null) return null;
  const special = (token: string | null): TemplateItem[] => (token === null ? [] : [{ SpecialToken: { id: token, type_id: 0 } }]);
  return {
    type: 'TemplateProcessing',
    single: [...special(bos), { Sequence: { id: 'A', type_id: 0 } }, ...special(eos)],
    pair: [...special(bos), { Sequence: { id: 'A', type_id: 0 } }, { Sequence: { id: 'B', type_id: 0 } }, ...special(eos)],
  };
}

const isString = (value: unknown): value is string => typeof value === 'string';
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

  private refuse(name: string, why: string): never {
    throw new TokenizerInvalidError(`tokenizer.ggml.${name} ${why}.`, this.where);
  }
}
