import { TokenizerInvalidError } from './tokenizer-errors.ts';

/**
 * SentencePiece's table of characters to replace: a double-array trie of UTF-8 prefixes (Darts) whose values are places in a list of zero-terminated texts.
 * The longest entry that begins in a place is taken.
 */
export class CharacterMap {
  private readonly units: DataView;
  private readonly texts: Uint8Array;

  /** @param table length of the trie in bytes (uint32, little-endian), trie, texts. Empty: nothing changes. */
  constructor(table: Uint8Array, where: string) {
    const view = new DataView(table.buffer, table.byteOffset, table.byteLength);
    const length = table.length < 4 ? 0 : view.getUint32(0, true);
    if (length + 4 > Math.max(table.length, 4) || length % 4 !== 0)
      throw new TokenizerInvalidError(`The table of characters is cut off: ${table.length} bytes for a trie of ${length}.`, where);
    this.units = new DataView(table.buffer, table.byteOffset + Math.min(4, table.length), length);
    this.texts = table.subarray(4 + length);
  }

  apply(text: string): string {
    if (this.units.byteLength === 0) return text;
    const bytes = Buffer.from(text);
    const parts: Uint8Array[] = [];
    let kept = 0; // from here to `place` nothing was replaced
    for (let place = 0; place < bytes.length; ) {
      const [length, value] = this.longestAt(bytes, place);
      if (length === 0) {
        place += lengthOfCharacter(bytes[place]!);
        continue;
      }
      parts.push(bytes.subarray(kept, place), this.texts.subarray(value, this.texts.indexOf(0, value)));
      place += length;
      kept = place;
    }
    return Buffer.concat([...parts, bytes.subarray(kept)]).toString();
  }

  /** Length in bytes and value of the longest entry here; length 0 if no entry begins here. */
  private longestAt(bytes: Uint8Array, from: number): [length: number, value: number] {
    let found: [number, number] = [0, 0];
    let node = offsetOf(this.unit(0));
    for (let place = from; place < bytes.length; place++) {
      node ^= bytes[place]!;
      const unit = this.unit(node);
      // The highest bit marks a value, so it differs from every byte.
      if ((unit & 0x800000ff) >>> 0 !== bytes[place]!) break;
      node ^= offsetOf(unit);
      if (((unit >>> 8) & 1) === 1) found = [place + 1 - from, this.unit(node) & 0x7fffffff];
    }
    return found;
  }

  private unit(index: number): number {
    return index * 4 < this.units.byteLength ? this.units.getUint32(index * 4, true) : 0x80000000;
  }
}

const offsetOf = (unit: number): number => (unit >>> 10) << ((unit & 0x200) >>> 6);
const lengthOfCharacter = (first: number): number => (first < 0x80 ? 1 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4);
