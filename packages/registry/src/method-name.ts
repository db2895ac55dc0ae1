const methodPattern = /^(?:([A-Z][\w$]*)\.)?((?:static |get |set )?[\w$]+)(?:\((.*)\))?$/s;

/** Whether a method is written as a contract may: `forward`, `forward(x, mask)`, `Llama4Attention.forward(x)`. */
export function isMethodName(text: string): boolean {
  return methodPattern.test(text);
}

export interface MethodName {
  readonly className: string | null;
  readonly member: string;
  /** null where none are given. */
  readonly parameters: readonly string[] | null;
}

/** A path of attributes is no member of a class: it keeps its text, and `className` is null. */
export function parseMethod(text: string): MethodName {
  const match = methodPattern.exec(text);
  if (match === null) return { className: null, member: text, parameters: null };
  const [, className = null, member, parameters] = match;
  return { className, member: member!, parameters: parameters === undefined ? null : splitParameters(parameters) };
}

/** At the commas that separate parameters, not at those within a pattern. */
function splitParameters(text: string): string[] {
  const parts: string[] = [];
  let depth = 0;
  let from = 0;
  for (let at = 0; at <= text.length; at++) {
    const character = text[at];
    if (character !== undefined && '([{'.includes(character)) depth++;
    else if (character !== undefined && ')]}'.includes(character)) depth--;
    else if (character === undefined || (character === ',' && depth === 0)) {
      parts.push(text.slice(from, at));
      from = at + 1;
    }
  }
  return parts.map(plainParameter).filter((part) => part !== '');
}

/** An underscore before a name only says that the body does not use it. */
const plainParameter = (text: string): string =>
  text
    .trim()
    .replace(/\s+/g, ' ')
    .replace(/^(\.\.\.)?_+/, '$1');

/** @param relied as `parseMethod` gives them. */
export function sameParameters(relied: readonly string[], actual: readonly string[]): boolean {
  return relied.length === actual.length && relied.every((name, i) => name === plainParameter(actual[i]!));
}
