import type { DecodeOptions, Tokenizer } from './tokenizer.ts';

/**
 * Token ids to text, one by one. A character whose bytes lie in several tokens is held back until it is whole, so each text given out stays
 * right whatever follows; all of them together are `tokenizer.decode` of all ids. The cost of a token does not depend on what came before it.
 * Combined characters (an emoji with a joiner) come out code point by code point, as their parts arrive.
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
   * The text that is certain now that this token has come; may be empty.
   * @throws TokenIdError for an id that is not an integer from 0 up.
   */
  push(tokenId: number): string {
    const piece = this.tokenizer.piece(tokenId);
    if (piece.special && this.skipSpecialTokens) return '';
    return this.decoder.decode(piece.bytes, { stream: true });
  }

  /** U+FFFD for a character that never became whole, else nothing. After it a new sequence can begin. */
  flush(): string {
    return this.decoder.decode();
  }
}
