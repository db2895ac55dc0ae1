import type { DecodeOptions, Tokenizer } from './tokenizer.ts';

/**
 * Turns token ids into text, one by one. A character whose bytes are in several tokens is held back until it is complete, so emitted text never changes. All texts
 * together equal `tokenizer.decode` of all ids, which alone drops the space that SentencePiece puts before a text: an answer goes on from its prompt. The cost of a token does not depend on earlier ones. Combined characters (an emoji with a joiner) come out code point
 * by code point.
 */
export class Detokenizer {
  private readonly tokenizer: Pick<Tokenizer, 'piece'>;
  private readonly skipSpecialTokens: boolean;
  // Keeps at most three bytes of an unfinished character between calls.
  private readonly decoder = new TextDecoder('utf-8', { ignoreBOM: true });

  constructor(tokenizer: Pick<Tokenizer, 'piece'>, { skipSpecialTokens = true }: DecodeOptions = {}) {
    this.tokenizer = tokenizer;
    this.skipSpecialTokens = skipSpecialTokens;
  }

  /**
   * The text that is certain after this token, possibly empty.
   * @throws TokenIdError for an id that is not an integer from 0 up.
   */
  push(tokenId: number): string {
    const piece = this.tokenizer.piece(tokenId);
    if (piece.special && this.skipSpecialTokens) return '';
    return this.decoder.decode(piece.bytes, { stream: true });
  }

  /** U+FFFD for an incomplete character, else nothing. A new sequence can begin afterwards. */
  flush(): string {
    return this.decoder.decode();
  }
}
