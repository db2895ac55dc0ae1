import { BPE, Unigram } from './library.ts';
import type { BpeModel, UnigramModel } from './tokenizer-json.ts';

/** Cuts a word into ids of a vocabulary. */
export class WordPieces {
  readonly ids: ReadonlyMap<string, number>;
  readonly unknownId: number | null;
  private readonly cut: (word: string) => string[];
  /** Empty if bytes have no tokens. */
  private readonly byteIds: readonly (number | undefined)[];
  private readonly fuseUnknown: boolean;
  private readonly ignoreMerges: boolean;

  constructor(model: BpeModel | UnigramModel) {
    if (model.type === 'BPE') {
      const bpe = new BPE({ ...model, ignore_merges: false, merges: model.scores === undefined ? model.merges : [] });
      if (model.scores !== undefined) bpe.bpe_ranks = new ScoreRanks(model.scores);
      this.ids = bpe.tokens_to_ids;
      this.unknownId = this.ids.get(model.unk_token ?? '') ?? null;
      this.cut = (word) => bpe.bpe(word);
    } else {
      const unigram = new Unigram({ ...model, unk_id: model.unk_id ?? 0 }, '');
      this.ids = new Map(model.vocab.map(([piece], id) => [piece, id]));
      this.unknownId = model.unk_id;
      this.cut = (word) => unigram.tokenize(word);
    }
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
    for (const piece of this.cut(this.known(word))) {
      const found = this.idsOf(piece);
      if (found !== null) ids.push(...found);
      else if (this.unknownId !== null && !(wasUnknown && this.fuseUnknown)) ids.push(this.unknownId);
      wasUnknown = found === null;
    }
  }

  /** The id of a piece, or those of its bytes; null if it is unknown. */
  private idsOf(piece: string): number[] | null {
    const id = this.ids.get(piece);
    if (id !== undefined) return [id];
    const bytes = this.byteIds.length === 0 ? [undefined] : Array.from(Buffer.from(piece), (byte) => this.byteIds[byte]);
    return bytes.includes(undefined) ? null : (bytes as number[]);
  }

  /**
   * Leaves out characters that become no token (control characters, as a rule). Published tokenizers do so before they merge, so the neighbours can still merge; the
   * library would do so afterwards.
   */
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

/**
 * Ranks of merges by the score of the result: the library asks for the rank of a pair, which SentencePiece does not have. Of equal scores, the library merges the
 * leftmost, as SentencePiece does.
 */
class ScoreRanks extends Map<string, number> {
  private readonly ranks: ReadonlyMap<string, number>;

  constructor(scores: ReadonlyMap<string, number>) {
    super();
    const rankOf = new Map([...new Set(scores.values())].sort((a, b) => b - a).map((score, rank) => [score, rank]));
    this.ranks = new Map(Array.from(scores, ([piece, score]) => [piece, rankOf.get(score)!]));
  }

  override get(pair: string): number | undefined {
    const [left, right] = JSON.parse(pair) as [string, string];
    return this.ranks.get(left + right);
  }
}
