import type { TokenizerConfigPreTokenizer, TokenizerJson } from './tokenizer-json.ts';

/**
 * A lower bound for the number of a text's tokens, computed without merges. Tokens cover the bytes of a text from left to right, so each further token reaches at
 * most as far as the longest piece of the vocabulary that starts in any place before.
 */
export class LeastTokens {
  /** One character a byte, sorted. */
  private readonly pieces: readonly string[];
  private readonly first: ReadonlySet<number>;
  private readonly normalize: boolean;

  /**
   * @param pieces the bytes of every token, added tokens included.
   * @param normalize whether texts are normalised to NFC first.
   */
  constructor(pieces: Iterable<Uint8Array>, normalize: boolean) {
    this.pieces = [...new Set(Array.from(pieces, (bytes) => Buffer.from(bytes).toString('latin1')))].filter((piece) => piece !== '').sort();
    this.first = new Set(this.pieces.map((piece) => piece.charCodeAt(0)));
    this.normalize = normalize;
  }

  /** Counts up to `limit`. */
  count(text: string, limit: number): number {
    const bytes = this.known(Buffer.from(this.normalize ? text.normalize('NFC') : text));
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

/** Whether every byte of a text becomes part of a token or is dropped alone. Otherwise the bound does not hold. */
export function tokensCoverText({ normalizer, pre_tokenizer, added_tokens, model }: TokenizerJson): boolean {
  const affixes = model as unknown as Record<string, unknown>;
  return (
    (normalizer === null || normalizer.type === 'NFC') &&
    (pre_tokenizer === null || keepsText(pre_tokenizer)) &&
    added_tokens.every(({ lstrip, rstrip }) => lstrip !== true && rstrip !== true) &&
    (affixes['continuing_subword_prefix'] ?? '') === '' &&
    (affixes['end_of_word_suffix'] ?? '') === ''
  );
}

function keepsText(node: TokenizerConfigPreTokenizer): boolean {
  if (node.type === 'Sequence') return node.pretokenizers.every(keepsText);
  if (node.type === 'ByteLevel') return node.add_prefix_space !== true;
  return node.type === 'Digits' || (node.type === 'Split' && node.behavior === 'Isolated');
}
