/**
 * A class's own source, with each bracketed group cut out and numbered. JavaScript has no other way to ask whether a class has fields or a
 * constructor of its own, and both decide whether an instance may be given the class without being built by it.
 * Limits: a template inside a template; an initialiser that goes on in a line that starts with a name.
 */
interface ClassSource {
  /** Between the outer braces; `name⟨3⟩ ⦃4⦄` is a method. */
  readonly members: string;
  /** The text of the constructor's body, groups put back; null where the class has none. */
  readonly constructorBody: string | null;
  /** All parameters of the constructor, with those that have a default and the rest. */
  readonly parameters: number;
}

/** `none`: the base's. `pass-through`: it hands its arguments to the base. `own`: it takes parameters of its own. */
export function constructorOf(Class: object): 'none' | 'pass-through' | 'own' {
  const body = sourceOf(Class)?.constructorBody ?? null;
  if (body === null) return 'none';
  return /\bsuper\(\s*\.\.\.\s*[\w$]+\s*\)/.test(body) ? 'pass-through' : 'own';
}

/** How many parameters the constructor of a class names. `length` leaves out those from the first default on. */
export function parametersOf(Class: object): number {
  return sourceOf(Class)?.parameters ?? 0;
}

/** Whether building an instance sets fields: declared ones, or those that a compiler has moved into the constructor. */
export function declaresFields(Class: object): boolean {
  const source = sourceOf(Class);
  if (source === null) return false;
  const withoutMethods = source.members.replace(/=\s+/g, '= ').replace(methods, ';');
  const names = withoutMethods.split(/[;\n]/).map((text) => text.trim());
  return names.some((text) => /^(?!static\b)[\w$#"⟦]/.test(text)) || /\bthis\b/.test(source.constructorBody ?? '');
}

const textual =
  /\/\*.*?\*\/|\/\/[^\n]*|'(?:\\.|[^\\'])*'|"(?:\\.|[^\\"])*"|`(?:\\.|[^\\`])*`|(?<=(?:[=(,:[!&|?{};+*%<>~^-]|\breturn|\btypeof|\bcase)\s*)\/(?:\\.|\[(?:\\.|[^\]\\])*\]|[^/\\\n])+\//gs;
const methods = /(?:(?:static|async|get|set)\b\s*|\*\s*)*(?:[\w$#]+|""|⟦\d+⟧)\s*⟨\d+⟩\s*⦃\d+⦄|static\s*⦃\d+⦄/g;

function sourceOf(Class: object): ClassSource | null {
  let source = Function.prototype.toString.call(Class);
  if (!/^class\b/.test(source)) return null;
  source = source.replace(textual, (text) => (text.startsWith('/*') || text.startsWith('//') ? ' ' : '""'));
  const groups: string[] = [];
  for (let before = ''; before !== source; ) {
    before = source;
    source = source.replace(/\([^()[\]{}]*\)|\[[^()[\]{}]*\]|\{[^()[\]{}]*\}/g, (group) => {
      const [open, close] = { '(': '⟨⟩', '[': '⟦⟧', '{': '⦃⦄' }[group[0]!]!;
      return `${open}${groups.push(group) - 1}${close}`;
    });
  }
  const groupAt = (number: string): string => groups[Number(number)] ?? '';
  const whole = (text: string): string => text.replace(/[⟨⟦⦃](\d+)[⟩⟧⦄]/g, (_, number: string) => whole(groupAt(number)));
  const members = groupAt(/⦃(\d+)⦄\s*$/.exec(source)?.[1] ?? '').slice(1, -1);
  const body = /(?<!static\s+)(?<![\w$#])constructor\s*⟨(\d+)⟩\s*⦃(\d+)⦄/.exec(members);
  const parameters = body === null ? [] : groupAt(body[1]!).slice(1, -1).split(',');
  const constructorBody = body === null ? null : whole(groupAt(body[2]!));
  return { members, constructorBody, parameters: parameters.filter((text) => text.trim() !== '').length };
}
