import { type Normalize, spacesAtEnd, spacesAtStart } from './normalizer.ts';
import { wordCharacter } from './pre-tokenizer.ts';
import type { AddedToken } from './tokenizer-json.ts';

/** A part of a text: an added token, or text between two of them. */
export type Section = { token: AddedToken } | { text: string; before: AddedToken | null };

/** UTF-16 code units to the nodes below. */
interface Node {
  readonly next: Map<string, Node>;
  token?: AddedToken;
}

/**
 * Finds added tokens in a text: the leftmost, and of those that begin there the longest. Not the library's: it ignores `single_word`, takes JavaScript's white space
 * for `lstrip` and `rstrip`, and takes any text that equals a token's name for the token.
 */
export class AddedTokens {
  private readonly normalize: Normalize;
  private readonly plain: Node = { next: new Map() };
  /** Matched after normalising, in their normalised form. */
  private readonly normalized: Node = { next: new Map() };

  constructor(tokens: readonly AddedToken[], normalize: Normalize) {
    this.normalize = normalize;
    for (const token of tokens) {
      if (token.normalized ?? token.special !== true) insert(this.normalized, normalize(token.content, token), token);
      else insert(this.plain, token.content, token);
    }
  }

  /** The text's sections from left to right, normalised. No text in them is empty. */
  split(text: string): Section[] {
    return sectionsOf(text, this.plain, null).flatMap((section) => {
      if ('token' in section) return [section];
      return sectionsOf(this.normalize(section.text, section.before), this.normalized, section.before);
    });
  }
}

function insert(root: Node, content: string, token: AddedToken): void {
  let node = root;
  for (let place = 0; place < content.length; place++) {
    let next = node.next.get(content[place]!);
    if (next === undefined) node.next.set(content[place]!, (next = { next: new Map() }));
    node = next;
  }
  if (content !== '') node.token ??= token;
}

function sectionsOf(text: string, root: Node, precedes: AddedToken | null): Section[] {
  const sections: Section[] = [];
  let before = precedes;
  let from = 0; // text before it is in a section
  for (let place = 0; place < text.length; ) {
    const [token, length] = longestAt(text, place, root);
    if (token === null) {
      place++;
      continue;
    }
    let start = place;
    let end = place + length;
    place = end;
    if (
      token.single_word === true &&
      (wordEnds.test(text.slice(Math.max(0, start - 2), start)) || wordBegins.test(text.slice(end, end + 2)))
    )
      continue;
    if (token.lstrip === true) start -= spacesAtEnd(text, from, start);
    if (token.rstrip === true) end += spacesAtStart(text, end);
    if (from < start) sections.push({ text: text.slice(from, start), before });
    sections.push({ token });
    before = token;
    from = end;
  }
  if (from < text.length) sections.push({ text: text.slice(from), before });
  return sections;
}

function longestAt(text: string, from: number, root: Node): [token: AddedToken | null, length: number] {
  let found: [AddedToken | null, number] = [null, 0];
  let node: Node | undefined = root;
  for (let place = from; place < text.length; place++) {
    node = node.next.get(text[place]!);
    if (node === undefined) break;
    if (node.token !== undefined) found = [node.token, place + 1 - from];
  }
  return found;
}

const wordEnds = new RegExp(`${wordCharacter}$`, 'u');
const wordBegins = new RegExp(`^${wordCharacter}`, 'u');
