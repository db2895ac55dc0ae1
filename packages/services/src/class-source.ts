import { type ClassBody, type ClassExpression, type MethodDefinition, parseExpressionAt, tokenizer, tokTypes } from 'acorn';

// JavaScript has no other way to ask whether a class has fields or a constructor of its own. Both decide whether an instance may be given the class
// without being built by it.

/** `none`: the base's. `pass-through`: it hands its arguments to the base. `own`: it takes parameters of its own. */
export function constructorOf(Class: object): 'none' | 'pass-through' | 'own' {
  const { text } = ownConstructor(Class) ?? {};
  if (text === undefined) return 'none';
  return /\bsuper\(\s*\.\.\.\s*[\w$]+\s*\)/.test(text) ? 'pass-through' : 'own';
}

/** How many parameters the constructor of a class names. `length` leaves out those from the first default on. */
export function parametersOf(Class: object): number {
  return ownConstructor(Class)?.method.value.params.length ?? 0;
}

/** Whether building an instance sets fields: declared ones, or those that a compiler has moved into the constructor. */
export function declaresFields(Class: object): boolean {
  if (membersOf(Class).some((member) => member.type === 'PropertyDefinition' && !member.static)) return true;
  const tokens = tokenizer(ownConstructor(Class)?.text ?? '', { ecmaVersion: 'latest' });
  return [...tokens].some(({ type }) => type === tokTypes._this);
}

function ownConstructor(Class: object): { method: MethodDefinition; text: string } | null {
  for (const method of membersOf(Class))
    if (method.type === 'MethodDefinition' && method.kind === 'constructor')
      return { method, text: sourceOf(Class).slice(method.start, method.end) };
  return null;
}

/** None for a function, or for a class of the language itself. */
function membersOf(Class: object): ClassBody['body'] {
  const source = sourceOf(Class);
  return /^class\b/.test(source) ? (parseExpressionAt(source, 0, { ecmaVersion: 'latest' }) as ClassExpression).body.body : [];
}

const sourceOf = (Class: object): string => Function.prototype.toString.call(Class);
