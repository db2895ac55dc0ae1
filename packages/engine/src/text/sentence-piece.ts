import { readFile } from 'node:fs/promises';
import { messageOf } from '@graft/common';
import { wordMark } from './pre-tokenizer.ts';
import { TokenizerInvalidError, TokenizerUnsupportedError } from './tokenizer-errors.ts';
import type { AddedToken, TokenizerJson, TokenizerPart } from './tokenizer-json.ts';
import { byteName } from './word-pieces.ts';

/** Types of SentencePiece's pieces; also the numbers of a GGUF's `tokenizer.ggml.token_type`. */
export const pieceType = { normal: 1, unknown: 2, control: 3, userDefined: 4, unused: 5, byte: 6 } as const;

/** A vocabulary of SentencePiece, from its own file or a GGUF. */
export interface SentencePieceVocabulary {
  algorithm: 'bpe' | 'unigram';
  /** In the order of the ids. */
  pieces: readonly { text: string; score: number; type: number }[];
  /** Whether a text gets a space in front. */
  addsSpace: boolean;
  /**
   * Whether user-defined pieces are found in the normalised text, as SentencePiece finds them. GGUF's own runtime finds them before, and puts a space in front of the text
   * after each.
   */
  normalizesUserDefined: boolean;
  /** Whether spaces at both ends are dropped and runs of them become one. */
  removesExtraSpaces: boolean;
  /** Table of characters to replace; empty for none. */
  characterMap: Uint8Array;
  /** Names of the tokens around a text. */
  begins: string | null;
  ends: string | null;
}

/** The vocabulary in the form of a tokenizer.json. */
export function sentencePieceJson(vocabulary: SentencePieceVocabulary): TokenizerJson {
  const { algorithm, pieces, addsSpace, normalizesUserDefined, removesExtraSpaces, characterMap, begins, ends } = vocabulary;
  const replace = (pattern: object, content: string): TokenizerPart => ({ type: 'Replace', pattern, content });
  const normalizers: TokenizerPart[] = [];
  if (characterMap.length > 0)
    normalizers.push({ type: 'Precompiled', precompiled_charsmap: Buffer.from(characterMap).toString('base64') });
  if (removesExtraSpaces) normalizers.push(replace({ Regex: String.raw`\A +| +\z` }, ''), replace({ Regex: ' {2,}' }, ' '));
  if (addsSpace) normalizers.push({ type: 'Prepend', prepend: wordMark, onlyFresh: normalizesUserDefined });
  normalizers.push(replace({ String: ' ' }, wordMark));
  const unknown = pieces.findIndex(({ type }) => type === pieceType.unknown);
  // In a unigram model, SentencePiece lets a user-defined piece win by its score.
  const isScored = algorithm === 'unigram' && normalizesUserDefined;
  const dropped = removesExtraSpaces ? Number.MAX_SAFE_INTEGER : addsSpace ? 1 : 0; // spaces at the start of decoded text
  const isBytes = pieces.some(({ text }) => text === byteName(0));
  return {
    added_tokens: addedTokens(pieces, normalizesUserDefined).filter(({ special }) => special === true || !isScored),
    normalizer: { type: 'Sequence', normalizers },
    pre_tokenizer: null,
    post_processor: aroundTokens(begins, ends),
    decoder: {
      type: 'Sequence',
      decoders: [
        replace({ String: wordMark }, ' '),
        { type: 'ByteFallback' },
        { type: 'Fuse' },
        ...(dropped > 0 ? [{ type: 'Strip', content: ' ', start: dropped, stop: 0 }] : []),
      ],
    },
    model:
      algorithm === 'unigram'
        ? {
            type: 'Unigram',
            vocab: pieces.map(({ text, score, type }) => [text, isScored && type === pieceType.userDefined ? -0.1 : score]),
            unk_id: unknown < 0 ? null : unknown,
            byte_fallback: isBytes,
          }
        : {
            type: 'BPE',
            vocab: idsByName(pieces.map(({ text }) => text)),
            merges: [],
            scores: new Map(
              pieces.filter(({ type }) => type === pieceType.normal || type === pieceType.unused).map(({ text, score }) => [text, score]),
            ),
            unk_token: pieces[unknown]?.text ?? null,
            fuse_unk: true,
            byte_fallback: isBytes,
          },
  };
}

/** Ids by name; of two ids with the same name, the first. */
export function idsByName(names: ArrayLike<string>): Record<string, number> {
  // Without a prototype: "__proto__" may be a token.
  const ids: Record<string, number> = Object.create(null);
  for (let id = names.length - 1; id >= 0; id--) ids[names[id]!] = id;
  return ids;
}

/**
 * The pieces that are matched whole in a text. Normal ones, unused ones and bytes are not.
 * @param normalized whether user-defined ones are found after normalising.
 */
export function addedTokens(pieces: readonly { text: string; type: number }[], normalized = false): AddedToken[] {
  return pieces.flatMap(({ text, type }, id) => {
    const special = type === pieceType.control || type === pieceType.unknown;
    return (special || type === pieceType.userDefined) && text !== ''
      ? [{ id, content: text, normalized: normalized && !special, special }]
      : [];
  });
}

/** The beginning and end tokens around a text, by name; null if both are null. */
export function aroundTokens(begins: string | null, ends: string | null): TokenizerPart | null {
  const special = (name: string | null) => (name === null ? [] : [{ SpecialToken: { id: name, type_id: 0 } }]);
  const single = [...special(begins), { Sequence: { id: 'A', type_id: 0 } }, ...special(ends)];
  return single.length === 1 ? null : { type: 'TemplateProcessing', single };
}

/**
 * Reads a `tokenizer.model`, a protocol buffer of SentencePiece (sentencepiece_model.proto); null if the file does not exist.
 * @throws TokenizerUnsupportedError for another model type than BPE and unigram; TokenizerInvalidError for a damaged file.
 */
export async function readSentencePiece(
  file: string,
  { addBos, addEos }: { addBos: boolean; addEos: boolean },
): Promise<TokenizerJson | null> {
  let bytes: Uint8Array;
  try {
    bytes = await readFile(file);
  } catch (error) {
    if (['ENOENT', 'ENOTDIR'].includes((error as NodeJS.ErrnoException).code ?? '')) return null;
    throw new TokenizerInvalidError(`The file cannot be read: ${messageOf(error)}.`, file);
  }
  const refuse = (what: string) => new TokenizerInvalidError(`${what}.`, file);
  const model = fieldsOf(bytes, refuse);
  const trainer = fieldsOf(lastBytes(model, 2), refuse);
  const normalizer = fieldsOf(lastBytes(model, 3), refuse);
  const modelType = lastNumber(trainer, 3, 1);
  const algorithm = ({ 1: 'unigram', 2: 'bpe' } as const)[modelType];
  if (algorithm === undefined) {
    const value = ({ 3: 'word', 4: 'char' } as Record<number, string>)[modelType] ?? modelType;
    throw new TokenizerUnsupportedError({ key: 'SentencePiece model type', value, supported: ['bpe', 'unigram'], where: file });
  }
  const pieces = (model.get(1) ?? []).map((field) => {
    const piece = fieldsOf(field instanceof Uint8Array ? field : new Uint8Array(0), refuse);
    const type = lastNumber(piece, 3, pieceType.normal);
    const text = new TextDecoder('utf-8', { ignoreBOM: true }).decode(lastBytes(piece, 1));
    return { text, score: asFloat(lastNumber(piece, 2, 0)), type };
  });
  if (pieces.length === 0) throw refuse('The file holds no pieces of SentencePiece');
  return sentencePieceJson({
    algorithm,
    pieces,
    addsSpace: lastNumber(normalizer, 3, 1) === 1,
    normalizesUserDefined: true,
    removesExtraSpaces: lastNumber(normalizer, 4, 1) === 1,
    characterMap: lastBytes(normalizer, 2),
    begins: addBos ? (pieces[lastNumber(trainer, 41, 1)]?.text ?? null) : null,
    ends: addEos ? (pieces[lastNumber(trainer, 42, 2)]?.text ?? null) : null,
  });
}

/** The values of a message by field number: numbers (floats as their bits) and bytes. */
type Fields = ReadonlyMap<number, readonly (number | Uint8Array)[]>;

function fieldsOf(bytes: Uint8Array, refuse: (what: string) => Error): Fields {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const fields = new Map<number, (number | Uint8Array)[]>();
  let place = 0;
  const varint = (): number => {
    for (let value = 0, shift = 0; shift < 70; shift += 7) {
      const byte = view.getUint8(place++);
      value += (byte & 0x7f) * 2 ** shift;
      if (byte < 0x80) return value;
    }
    throw refuse('A number in the file is too long');
  };
  const skip = (length: number): number => {
    if (place + length > bytes.length) throw refuse(`The file ends within a field, after ${bytes.length} bytes`);
    place += length;
    return place - length;
  };
  while (place < bytes.length) {
    let tag: number;
    try {
      tag = varint();
      const kind = tag % 8;
      let value: number | Uint8Array;
      if (kind === 0) value = varint();
      else if (kind === 1) value = view.getFloat64(skip(8), true);
      else if (kind === 5) value = view.getUint32(skip(4), true);
      else if (kind === 2) {
        const length = varint();
        value = bytes.subarray(skip(length), place);
      } else throw refuse(`Field type ${kind} of protocol buffers is unknown`);
      const field = Math.floor(tag / 8);
      const values = fields.get(field) ?? [];
      values.push(value);
      fields.set(field, values);
    } catch (error) {
      throw error instanceof RangeError ? refuse('The file ends within a number') : error;
    }
  }
  return fields;
}

function lastBytes(fields: Fields, field: number): Uint8Array {
  const value = fields.get(field)?.at(-1);
  return value instanceof Uint8Array ? value : new Uint8Array(0);
}

function lastNumber(fields: Fields, field: number, otherwise: number): number {
  const value = fields.get(field)?.at(-1);
  return typeof value === 'number' ? value : otherwise;
}

const asFloat = (bits: number): number => new Float32Array(Uint32Array.of(bits).buffer)[0]!;
