const methodPattern = /^(?:([A-Z][\w$]*)\.)?((?:static |get |set )?[\w$]+)(?:\((.*)\))?$/s;

/** Whether a method is written as a contract may: `forward`, `forward(x, mask)`, `Attention.forward(x)`. */
export function isMethodName(text: string): boolean {
  return methodPattern.test(text);
}

/** `parameters`: between the parentheses; null without them. A path of attributes is not a member of a class: it keeps its text, and `className` is null. */
export function parseMethod(text: string) {
  const [, className = null, member = text, parameters = null] = methodPattern.exec(text) ?? [];
  return { className, member, parameters };
}

/** @param relied as `parseMethod` gives them. Spaces are free, and an underscore before a name only says that the body does not use it. */
export function sameParameters(relied: string, actual: readonly string[]): boolean {
  const plain = (text: string): string =>
    text
      .trim()
      .replace(/,$/, '')
      .replace(/\s+/g, ' ')
      .replace(/\s*,\s*/g, ', ')
      .replace(/(^|, )(\.\.\.)?_+/g, '$1$2');
  return plain(relied) === plain(actual.join(', '));
}
