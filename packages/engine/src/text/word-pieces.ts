import { BytePairs } from './byte-pairs.ts';
import { Unigram } from './library.ts';
import type { BpeModel, TokenizerJson, UnigramModel } from './tokenizer-json.ts';

/** Cuts a word into ids of a vocabulary. */
export class WordPieces {
  readonly ids: ReadonlyMap<string, number>;
  private readonly unknownId: number | null;
  /** Ids of pieces; for an unknown character the complement (`~`) of its code point. */
  private readonly cut: (word: string) => readonly number[];
  /** Empty if bytes have no tokens. */
  private readonly byteIds: readonly (number | undefined)[];
  private readonly fuseUnknown: boolean;
  private readonly ignoreMerges: boolean;

  constructor(model: TokenizerJson['model']) {
    this.ids = model.type === 'BPE' ? new Map(Object.entries(model.vocab)) : new Map(model.vocab.map(([piece], id) => [piece, id]));
    this.unknownId = model.type === 'BPE' ? (this.ids.get(model.unk_token ?? '') ?? null) : model.unk_id;
    this.cut = model.type === 'BPE' ? this.byPairs(model) : this.byLikelihood(model);
    this.byteIds = model.byte_fallback === true ? Array.from({ length: 256 }, (_, byte) => this.ids.get(byteName(byte))) : [];
    this.fuseUnknown = model.type === 'Unigram' || model.fuse_unk === true;
    this.ignoreMerges = model.type === 'BPE' && model.ignore_merges === true;
  }

  /** Appends the ids of a word. */
  append(word: string, ids: number[]): void {
    const whole = this.ignoreMerges ? this.ids.get(word) : undefined;
    if (whole !== undefined) {
      ids.push(whole);
      return;
    }
    let wasUnknown = false;
    for (const id of this.cut(this.known(word))) {
      const found = id >= 0 ? [id] : this.bytesOf(~id);
      if (found !== null) ids.push(...found);
      else if (this.unknownId !== null && !(wasUnknown && this.fuseUnknown)) ids.push(this.unknownId);
      wasUnknown = found === null;
    }
  }

  private byPairs(model: BpeModel): (word: string) => readonly number[] {
    const pairs = new BytePairs(model, this.ids);
    return (word) => pairs.cut(word);
  }

  private byLikelihood(model: UnigramModel): (word: string) => readonly number[] {
    if (model.vocab.length === 0) return () => [];
    const unigram = new Unigram({ ...model, unk_id: model.unk_id ?? 0 }, '');
    return (word) => unigram.tokenize(word).map((piece) => this.ids.get(piece) ?? ~piece.codePointAt(0)!);
  }

  /** The ids of a character's bytes; null unless all have tokens. */
  private bytesOf(codePoint: number): number[] | null {
    if (this.byteIds.length === 0) return null;
    const ids = Array.from(Buffer.from(String.fromCodePoint(codePoint)), (byte) => this.byteIds[byte]);
    return ids.includes(undefined) ? null : (ids as number[]);
  }

  /** Leaves out characters that become no token (control characters, as a rule) before merging, so that their neighbours can merge. */
  private known(word: string): string {
    if (this.byteIds.length > 0 || this.unknownId !== null) return word;
    for (const character of word) {
      if (!this.ids.has(character))
        return Array.from(word)
          .filter((letter) => this.ids.has(letter))
          .join('');
    }
    return word;
  }
}

export const byteName = (byte: number): string => `<0x${byte.toString(16).toUpperCase().padStart(2, '0')}>`;
