/**
 * What a class's own source declares. JavaScript has no other way to ask whether a class has fields or a constructor of its own,
 * and both decide whether an instance may be given the class without being built by it.
 */
export interface ClassMember {
  readonly kind: 'field' | 'method' | 'static';
  readonly name: string;
  readonly body: string;
}

/** `none`: the base's. `pass-through`: it hands its arguments to the base. `own`: it takes parameters of its own. */
export function constructorOf(Class: object): 'none' | 'pass-through' | 'own' {
  const member = membersOf(Class).find(({ kind, name }) => kind === 'method' && name === 'constructor');
  if (member === undefined) return 'none';
  return /\bsuper\(\s*\.\.\.\s*[\w$]+\s*\)/.test(member.body) ? 'pass-through' : 'own';
}

/** Whether building an instance sets fields: declared ones, or those that a compiler has moved into the constructor. */
export function declaresFields(Class: object): boolean {
  return membersOf(Class).some(({ kind, name, body }) => kind === 'field' || (name === 'constructor' && /\bthis\b/.test(body)));
}

function membersOf(Class: object): ClassMember[] {
  const source = Function.prototype.toString.call(Class);
  if (!/^class\b/.test(source)) return [];
  const members: ClassMember[] = [];
  let at = skipTo(source, 0, '{') + 1;
  while (at < source.length) {
    at = skipSpace(source, at);
    if (source[at] === '}' || at >= source.length) break;
    if (source[at] === ';') {
      at += 1;
      continue;
    }
    const member = readMember(source, at);
    members.push(member.member);
    at = member.end;
  }
  return members;
}

function readMember(source: string, start: number): { member: ClassMember; end: number } {
  let at = start;
  while (at < source.length && !'(={;}'.includes(source[at]!)) {
    if (source[at] === '\n' && !isModifier(source.slice(start, at))) break;
    at = skipToken(source, at);
  }
  const head = source.slice(start, at).trim();
  const isStatic = /^static\b/.test(head);
  const name = head.split(/\s+/).at(-1)!;
  if (source[at] === '(') {
    const body = skipTo(source, skipToken(source, at), '{');
    const end = skipToken(source, body);
    return { member: { kind: isStatic ? 'static' : 'method', name, body: source.slice(body, end) }, end };
  }
  if (source[at] === '{') return { member: { kind: 'static', name, body: '' }, end: skipToken(source, at) };
  let end = at;
  while (end < source.length && source[end] !== ';' && source[end] !== '}' && !(source[end] === '\n' && end > at + 1))
    end = skipToken(source, end);
  return { member: { kind: isStatic ? 'static' : 'field', name, body: source.slice(at, end) }, end };
}

/** `static`, `get` and the like: what follows on the next line still belongs to the member. */
function isModifier(head: string): boolean {
  return /^(?:(?:static|async|get|set|accessor|\*)\s*)*$/.test(head.trim());
}

function skipTo(source: string, from: number, target: string): number {
  let at = from;
  while (at < source.length && source[at] !== target) at = skipToken(source, at);
  return at;
}

function skipSpace(source: string, from: number): number {
  let at = from;
  while (at < source.length) {
    if (/\s/.test(source[at]!)) at += 1;
    else if (source.startsWith('//', at) || source.startsWith('/*', at)) at = skipToken(source, at);
    else break;
  }
  return at;
}

const closing: Readonly<Record<string, string>> = { '(': ')', '[': ']', '{': '}' };

/** Past one character, or past a whole comment, string, template, regular expression or bracketed group. */
function skipToken(source: string, at: number): number {
  const character = source[at]!;
  if (source.startsWith('//', at)) return endOr(source, source.indexOf('\n', at));
  if (source.startsWith('/*', at)) return endOr(source, source.indexOf('*/', at) + 2);
  if (character === "'" || character === '"') return skipQuoted(source, at, character);
  if (character === '`') return skipTemplate(source, at);
  if (character === '/' && startsRegularExpression(source, at)) return skipRegularExpression(source, at);
  const close = closing[character];
  if (close === undefined) return at + 1;
  return skipTo(source, at + 1, close) + 1;
}

function endOr(source: string, index: number): number {
  return index < 2 ? source.length : index;
}

function skipQuoted(source: string, from: number, quote: string): number {
  let at = from + 1;
  while (at < source.length && source[at] !== quote) at += source[at] === '\\' ? 2 : 1;
  return at + 1;
}

function skipTemplate(source: string, from: number): number {
  let at = from + 1;
  while (at < source.length && source[at] !== '`') {
    if (source[at] === '\\') at += 2;
    else if (source.startsWith('${', at)) at = skipToken(source, at + 1);
    else at += 1;
  }
  return at + 1;
}

/** A slash divides after a value; elsewhere it opens a regular expression. */
function startsRegularExpression(source: string, at: number): boolean {
  const before = source.slice(0, at).trimEnd();
  return /(?:[=(,:[!&|?{};+\-*%<>~^]|\b(?:return|typeof|case|in|of|void|delete))$/.test(before.slice(-12));
}

function skipRegularExpression(source: string, from: number): number {
  let at = from + 1;
  let inClass = false;
  while (at < source.length && (inClass || source[at] !== '/')) {
    if (source[at] === '[') inClass = true;
    if (source[at] === ']') inClass = false;
    at += source[at] === '\\' ? 2 : 1;
  }
  return at + 1;
}
