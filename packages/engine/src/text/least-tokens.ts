import { wordMark } from './pre-tokenizer.ts';
import type { TokenizerJson, TokenizerPart } from './tokenizer-json.ts';

/**
 * A lower bound for the number of a text's tokens, computed without merges. Tokens cover the bytes of a text from left to right, so each further token reaches at
 * most as far as the longest piece of the vocabulary that starts in any place before.
 */
export class LeastTokens {
  /** One character a byte, sorted. */
  private readonly pieces: readonly string[];
  private readonly first: ReadonlySet<number>;
  private readonly normalize: (text: string) => string;

  /**
   * @param pieces the bytes of every token, added tokens included.
   * @param normalize what happens to a text first.
   */
  constructor(pieces: Iterable<Uint8Array>, normalize: (text: string) => string) {
    this.pieces = [...new Set(Array.from(pieces, (bytes) => Buffer.from(bytes).toString('latin1')))].filter((piece) => piece !== '').sort();
    this.first = new Set(this.pieces.map((piece) => piece.charCodeAt(0)));
    this.normalize = normalize;
  }

  /** Counts up to `limit`. */
  count(text: string, limit: number): number {
    const bytes = this.known(Buffer.from(this.normalize(text)));
    let count = 0;
    let reach = 0; // of `count` tokens
    let next = 0; // of one more
    for (let place = 0; reach < bytes.length && count < limit; place++) {
      next = Math.max(next, place + this.longestAt(bytes, place));
      if (place < reach) continue;
      reach = next;
      count++;
    }
    return count;
  }

  /** Leaves out bytes that begin no token: they are dropped before merging, or are tokens alone. */
  private known(bytes: Uint8Array): Uint8Array {
    return this.first.size === 256 ? bytes : bytes.filter((byte) => this.first.has(byte));
  }

  /** Length of the longest piece in this place; at least 1. */
  private longestAt(bytes: Uint8Array, place: number): number {
    let [low, high, longest] = [0, this.pieces.length, 1];
    for (let depth = 0; low < high && place + depth < bytes.length; depth++) {
      const byte = bytes[place + depth]!;
      low = this.firstFrom(low, high, depth, byte);
      high = this.firstFrom(low, high, depth, byte + 1);
      if (low < high && this.pieces[low]!.length === depth + 1) longest = depth + 1;
    }
    return longest;
  }

  /** The first piece from `low` to `high` whose byte at `depth` is at least `byte`. These pieces are equal before `depth`. */
  private firstFrom(low: number, high: number, depth: number, byte: number): number {
    let [from, to] = [low, high];
    while (from < to) {
      const middle = (from + to) >> 1;
      // NaN past the end of a piece: less than every byte.
      if (this.pieces[middle]!.charCodeAt(depth) >= byte) to = middle;
      else from = middle + 1;
    }
    return from;
  }
}

/** The bound for a tokenizer; null where text may be lost, or become an unknown token, so that none holds. `pieces`: the bytes of every token. */
export function leastTokensOf(
  { normalizer, pre_tokenizer, added_tokens, model }: TokenizerJson,
  pieces: () => Uint8Array[],
): LeastTokens | null {
  const losesUnknown = model.byte_fallback !== true && (model.type === 'Unigram' || model.fuse_unk === true);
  const keeps =
    !losesUnknown &&
    [normalizer, pre_tokenizer].every((part) => part === null || keepsText(part)) &&
    added_tokens.every(({ lstrip, rstrip }) => lstrip !== true && rstrip !== true);
  if (!keeps) return null;
  if (normalizer === null || normalizer.type === 'NFC')
    return new LeastTokens(pieces(), normalizer === null ? (text) => text : (text) => text.normalize('NFC'));
  // SentencePiece: a word mark is a space, and a text may get a space in front.
  const begun = pieces().flatMap((piece) => (piece[0] === 0x20 ? [piece, piece.subarray(1)] : [piece]));
  return new LeastTokens(begun, (text) => text.replaceAll(wordMark, ' '));
}

function keepsText(part: TokenizerPart): boolean {
  const steps = part['normalizers'] ?? part['pretokenizers'];
  if (part.type === 'Sequence') return Array.isArray(steps) && steps.every(keepsText);
  if (part.type === 'Replace') return part['content'] === wordMark;
  if (part.type === 'ByteLevel') return part['add_prefix_space'] !== true;
  return ['NFC', 'Prepend', 'Digits'].includes(part.type) || (part.type === 'Split' && part['behavior'] !== 'Removed');
}
