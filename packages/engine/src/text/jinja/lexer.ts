import { JinjaError } from './values.ts';

/** A token of a template. `op` is punctuation; `data` is the text between tags. */
export interface Token {
  type: 'data' | 'variable_begin' | 'variable_end' | 'block_begin' | 'block_end' | 'name' | 'string' | 'integer' | 'float' | 'op' | 'eof';
  value: string;
  /** Counted from 1. */
  line: number;
}

/** Python's whitespace. JavaScript's `\s` lacks five control characters and has the byte order mark. */
export const space = '[\\t-\\r\\x1c-\\x20\\x85\\xa0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000]';

const allSpace = new RegExp(`^${space}+$`);
const tag = new RegExp(`\\{%([-+]?)${space}*raw${space}*(?:-%\\}${space}*|%\\})|\\{([%{#])([-+]?)`, 'g');
const rawEnd = new RegExp(`\\{%([-+]?)${space}*endraw${space}*(?:\\+%\\}|-%\\}${space}*|%\\}\\n?)`, 'g');
const commentEnd = new RegExp(`\\+#\\}|-#\\}${space}*|#\\}\\n?`, 'g');
const ends = {
  '%': new RegExp(`\\+%\\}|-%\\}${space}*|%\\}\\n?`, 'y'),
  '{': new RegExp(`-\\}\\}${space}*|\\}\\}`, 'y'),
};
const spaces = new RegExp(`${space}+`, 'y');
const tokens: readonly (readonly [Token['type'], RegExp])[] = [
  ['float', /(?<!\.)(?:\d+_)*\d+(?:(?:\.(?:\d+_)*\d+)?e[+-]?(?:\d+_)*\d+|\.(?:\d+_)*\d+)/iy],
  ['integer', /0b(?:_?[01])+|0o(?:_?[0-7])+|0x(?:_?[\da-f])+|[1-9](?:_?\d)*|0(?:_?0)*/iy],
  ['name', /[\p{L}\p{N}\p{M}_]+/uy],
  ['string', /'[^'\\]*(?:\\[\s\S][^'\\]*)*'|"[^"\\]*(?:\\[\s\S][^"\\]*)*"/y],
  ['op', /\*\*|\/\/|[=!<>]=|[-+/*%~[\](){}.:|,;=<>]/y],
];
const closing: Readonly<Record<string, string>> = { '(': ')', '[': ']', '{': '}' };

/**
 * The tokens of a template, as Jinja with `trim_blocks` and `lstrip_blocks` reads it: every line break is `\n`, and one at the end is dropped.
 * @throws JinjaError
 */
export function tokenize(template: string): Token[] {
  const source = template.replace(/\r\n?/g, '\n').replace(/\n$/, '');
  const found: Token[] = [];
  let at = 0;
  let line = 1;
  let counted = 0;
  let lineStarts = true;
  const lineAt = (position: number): number => {
    for (; counted < position; counted++) if (source[counted] === '\n') line++;
    return line;
  };
  const match = (pattern: RegExp): RegExpExecArray | null => {
    pattern.lastIndex = at;
    return pattern.exec(source);
  };
  const push = (type: Token['type'], value: string): void => {
    found.push({ type, value, line: lineAt(at) });
  };
  /** @param strips the tag after the text has it strip blanks before it at the start of a line. */
  const pushText = (end: number, sign: string, strips: boolean): void => {
    let text = source.slice(at, end);
    const lastLine = text.lastIndexOf('\n') + 1;
    if (sign === '-') text = withoutEndSpace(text);
    else if (sign !== '+' && strips && (lastLine > 0 || lineStarts) && allSpace.test(text.slice(lastLine))) text = text.slice(0, lastLine);
    if (text !== '') push('data', text);
  };
  const advance = (matched: RegExpExecArray): void => {
    at = matched.index + matched[0].length;
    lineStarts = matched[0].endsWith('\n');
  };
  const tagTokens = (end: RegExp): RegExpExecArray => {
    const open: string[] = [];
    while (at < source.length) {
      const ended = open.length === 0 ? match(end) : null;
      if (ended !== null) return ended;
      const blank = match(spaces);
      if (blank !== null) {
        at += blank[0].length;
        continue;
      }
      const [type, value] = firstMatch(match) ?? fail(`unexpected character ${JSON.stringify(source[at])}`, lineAt(at));
      if (type === 'op' && value in closing) open.push(closing[value]!);
      else if (type === 'op' && /[)\]}]/.test(value)) {
        const expected = open.pop();
        if (expected !== value) fail(`unexpected '${value}'${expected === undefined ? '' : `, expected '${expected}'`}`, lineAt(at));
      }
      push(type, value);
      at += value.length;
    }
    return fail('the template ends within a tag', lineAt(at - 1));
  };

  while (at < source.length) {
    const opened = match(tag);
    if (opened === null) {
      push('data', source.slice(at));
      break;
    }
    const [, rawSign, kind, sign = rawSign ?? ''] = opened;
    pushText(opened.index, sign, kind !== '{');
    advance(opened);
    if (kind === undefined) {
      const ended = match(rawEnd) ?? fail('{% raw %} has no {% endraw %}', lineAt(at));
      pushText(ended.index, ended[1]!, true);
      advance(ended);
    } else if (kind === '#') {
      advance(match(commentEnd) ?? fail('a comment has no end', lineAt(at)));
    } else {
      const name = kind === '{' ? 'variable' : 'block';
      push(`${name}_begin`, kind);
      const ended = tagTokens(ends[kind as '{' | '%']);
      push(`${name}_end`, '');
      advance(ended);
    }
  }
  found.push({ type: 'eof', value: '', line: lineAt(source.length) });
  return found;
}

/** A pattern for blanks at the end would try from each blank of a long run. */
function withoutEndSpace(text: string): string {
  let end = text.length;
  while (end > 0 && allSpace.test(text[end - 1]!)) end--;
  return text.slice(0, end);
}

function firstMatch(match: (pattern: RegExp) => RegExpExecArray | null): [Token['type'], string] | null {
  for (const [type, pattern] of tokens) {
    const matched = match(pattern);
    if (matched !== null) return [type, matched[0]];
  }
  return null;
}

function fail(what: string, line: number): never {
  throw new JinjaError(what, line);
}

const escapes: Readonly<Record<string, string>> = { n: '\n', t: '\t', r: '\r', b: '\b', f: '\f', v: '\v', a: '\x07', '\n': '' };

/** The text of a string literal, with Python's escapes; an unknown escape stays as it is written. */
export function stringOf(literal: string): string {
  return literal
    .slice(1, -1)
    .replace(/\\(?:x([\da-fA-F]{2})|u([\da-fA-F]{4})|U([\da-fA-F]{8})|([0-7]{1,3})|([\s\S]))/g, (whole, x, u, U, octal, letter: string) => {
      const hex: string | undefined = x ?? u ?? U;
      if (hex !== undefined) return String.fromCodePoint(Number.parseInt(hex, 16));
      if (octal !== undefined) return String.fromCodePoint(Number.parseInt(octal, 8));
      return escapes[letter] ?? (/[\\'"]/.test(letter) ? letter : whole);
    });
}
