import { wordMark } from './pre-tokenizer.ts';
import { TokenizerUnsupportedError } from './tokenizer-errors.ts';
import type { TokenizerPart } from './tokenizer-json.ts';

/** How tokens become text. */
export interface TokenText {
  /** The bytes of a token as the vocabulary writes it. */
  bytes(token: string): Uint8Array;
  /** The text of an added token: its name, not its letters read as bytes. */
  added(token: string): Uint8Array;
  /** Spaces that a whole text loses at its start, because encoding put them there. */
  readonly dropsSpaces: number;
}

/**
 * The decoder of a tokenizer.json, token by token, so that text can be streamed.
 * @throws TokenizerUnsupportedError for a decoder of another kind.
 */
export function decoderOf(part: TokenizerPart | null, where: string): TokenText {
  let isByteLevel = false;
  let hasBytes = false;
  let dropsSpaces = 0;
  const replaced: [string, string][] = [];
  const parts = part?.type === 'Sequence' ? ((part['decoders'] ?? []) as TokenizerPart[]) : [part];
  for (const step of parts) {
    const pattern = (step?.['pattern'] as { String?: string } | undefined)?.String;
    if (step?.type === 'ByteLevel') isByteLevel = true;
    else if (step?.type === 'ByteFallback') hasBytes = true;
    else if (step?.type === 'Replace' && pattern !== undefined) replaced.push([pattern, String(step['content'])]);
    else if (step?.type === 'Strip' && step['content'] === ' ' && step['stop'] === 0) dropsSpaces = Number(step['start']);
    else if (step?.type === 'Metaspace') {
      replaced.push([String(step['replacement'] ?? wordMark), ' ']);
      dropsSpaces = step['prepend_scheme'] === 'never' || step['add_prefix_space'] === false ? 0 : 1;
    } else if (step?.type !== 'Fuse') throw unsupported(parts, where); // `Fuse` joins the rest into one piece, which happens anyway
  }
  if (!isByteLevel && replaced.length === 0) throw unsupported(parts, where);
  const added = (token: string) => encoder.encode(replaced.reduce((text, [from, to]) => text.replaceAll(from, () => to), token));
  const bytes = (token: string) => {
    if (isByteLevel) return bytesOfLetters(token);
    const byte = hasBytes ? /^<0x([0-9a-fA-F]{2})>$/.exec(token) : null;
    return byte === null ? added(token) : Uint8Array.of(Number.parseInt(byte[1]!, 16));
  };
  return { bytes, added, dropsSpaces };
}

function unsupported(parts: readonly (TokenizerPart | null)[], where: string): TokenizerUnsupportedError {
  const value = parts.map((part) => part?.type ?? null).join(', ');
  return new TokenizerUnsupportedError({
    key: 'decoder',
    value,
    supported: ['ByteLevel', 'Metaspace', 'Replace with ByteFallback'],
    where,
  });
}

const encoder = new TextEncoder();

/** Byte-level BPE writes each byte as one printable character: itself where it is printable Latin-1, else the next free one from U+0100 on. */
export const byteOfCharacter: ReadonlyMap<string, number> = (() => {
  const bytes = new Map<string, number>();
  let unprintable = 0;
  for (let byte = 0; byte < 256; byte++) {
    const printable = (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
    bytes.set(String.fromCharCode(printable ? byte : 0x100 + unprintable++), byte);
  }
  return bytes;
})();

function bytesOfLetters(token: string): Uint8Array {
  const bytes = Array.from(token, (character) => byteOfCharacter.get(character));
  // A token written in another alphabet stands for its letters.
  return bytes.includes(undefined) ? encoder.encode(token) : Uint8Array.from(bytes as number[]);
}
