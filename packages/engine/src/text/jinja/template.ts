import { startBudget } from './budget.ts';
import { globals } from './filters.ts';
import { parse } from './parser.ts';
import { Scope } from './scope.ts';
import { Namespace, toPython, type Value } from './values.ts';

/**
 * A chat template in the Jinja that transformers renders (`_compile_jinja_template`): `trim_blocks`, `lstrip_blocks`, loop controls, `{% generation %}`, a
 * `tojson` that does not escape HTML, and values that templates cannot change. It has the statements, methods, tests and filters that work on texts,
 * numbers, lists and dicts; those that load other templates or lay out pages (`include`, `block`, `groupby`, `batch`, `truncate`, `urlize` and the like)
 * are missing. Integers are exact up to 2^53.
 */
export class JinjaTemplate {
  private readonly run: ReturnType<typeof parse>;

  /** @throws JinjaError with the line */
  constructor(source: string) {
    this.run = parse(source);
  }

  /** @param variables JSON values. @throws JinjaError with the line, and what the functions throw */
  render(variables: Readonly<Record<string, unknown>>, functions: Readonly<Record<string, Value>> = {}): string {
    startBudget(JSON.stringify(variables).length);
    const builtin = new Scope(null);
    for (const [name, value] of Object.entries({ ...globals, ...functions })) builtin.set(name, value);
    for (const [name, value] of Object.entries(variables)) if (value !== undefined) builtin.set(name, toPython(value));
    builtin.set('self', new Namespace(new Map())); // holds the template's blocks in Jinja; chat templates have none
    const out = { text: '' };
    this.run(new Scope(builtin), out);
    return out.text;
  }
}
