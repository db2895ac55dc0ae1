import { spend } from './budget.ts';
import { filter, test } from './filters.ts';
import { stringOf, type Token } from './lexer.ts';
import { attributeOf, call, entriesOf, type Given, itemOf, sliceOf } from './methods.ts';
import { comparisons, concatenate, operate } from './operators.ts';
import { type Assign, type Scope, unpack } from './scope.ts';
import { Float, iterate, JinjaError, type Named, Namespace, newDict, str, truth, tupleOf, Undefined, type Value } from './values.ts';

export type Expression = (scope: Scope) => Value;
type Arguments = (scope: Scope) => Given;

const constants: Readonly<Record<string, Value>> = { true: true, false: false, none: null, True: true, False: false, None: null };

/** Reads expressions and targets of assignments as nested functions, by Jinja's grammar (`jinja2/parser.py`): each method reads one production. */
export class ExpressionParser {
  protected readonly tokens: readonly Token[];
  /** Expressions whose text a filter marked as safe. */
  private readonly markup = new WeakSet<Expression>();
  /** How often each name was read so far. */
  private readonly uses = new Map<string, number>();
  protected at = 0;

  constructor(tokens: readonly Token[]) {
    this.tokens = tokens;
  }

  protected get token(): Token {
    return this.tokens[this.at]!;
  }

  protected is(...values: string[]): boolean {
    return (this.token.type === 'op' || this.token.type === 'name') && values.includes(this.token.value);
  }

  protected skip(value: string): boolean {
    const found = this.is(value);
    if (found) this.at++;
    return found;
  }

  protected expect(type: Token['type'], value?: string): string {
    const { token } = this;
    if (token.type !== type || (value !== undefined && token.value !== value)) {
      this.fail(
        `expected ${value === undefined ? type.replace('_', ' ') : `'${value}'`}, got ${token.value === '' ? token.type : `'${token.value}'`}`,
      );
    }
    this.at++;
    return token.value;
  }

  protected useCount(name: string): number {
    return this.uses.get(name) ?? 0;
  }

  protected fail(what: string): never {
    throw new JinjaError(what, this.token.line);
  }

  // Targets of assignments

  protected targets(): Assign {
    const found = [this.target()];
    let isTuple = false;
    while (this.skip(',')) {
      isTuple = true;
      if (this.token.type !== 'name' && !this.is('(')) break;
      if (this.is('in')) break;
      found.push(this.target());
    }
    return isTuple ? unpack(found) : found[0]!;
  }

  protected target(): Assign {
    if (this.skip('(')) {
      const assign = this.targets();
      this.expect('op', ')');
      return assign;
    }
    const name = this.expect('name');
    if (Object.hasOwn(constants, name)) this.fail(`can't assign to '${name}'`);
    if (!this.skip('.')) return (scope, value) => scope.set(name, value);
    const attribute = this.expect('name');
    return (scope, value) => {
      const object = scope.get(name);
      if (!(object instanceof Namespace)) throw new JinjaError('cannot assign attribute on non-namespace object');
      if (attribute.startsWith('_')) throw new JinjaError(`the attribute '${attribute}' of a namespace cannot be set`);
      object.attributes.set(attribute, value);
    };
  }

  // Expressions, from the loosest operator to the tightest

  /** One expression, or several with commas between them as a tuple. */
  protected tuple({ conditions = true, end, empty = false }: { conditions?: boolean; end?: string; empty?: boolean } = {}): Expression {
    const items: Expression[] = [];
    const ended = (): boolean =>
      ['variable_end', 'block_end'].includes(this.token.type) || this.is(')') || (end !== undefined && this.is(end));
    let isTuple = empty && ended();
    while (!ended()) {
      items.push(conditions ? this.expression() : this.or());
      if (!this.skip(',')) break;
      isTuple = true;
    }
    if (isTuple) return (scope) => tupleOf(items.map((item) => item(scope)));
    return items[0] ?? this.fail(`expected an expression, got '${this.token.value}'`);
  }

  protected expression(): Expression {
    let value = this.or();
    while (this.skip('if')) {
      const [chosen, test] = [value, this.or()];
      const otherwise = this.skip('else') ? this.expression() : null;
      value = (scope) => {
        if (truth(test(scope))) return chosen(scope);
        return otherwise?.(scope) ?? (otherwise === null ? new Undefined('the inline if-expression was false and has no else') : null);
      };
    }
    return value;
  }

  private or(): Expression {
    return this.logical('or', true, () => this.logical('and', false, () => this.not()));
  }

  /** @param decisive the truth of a first operand that leaves the second unread. */
  private logical(word: string, decisive: boolean, operand: () => Expression): Expression {
    let left = operand();
    while (this.skip(word)) {
      const [first, second] = [left, operand()];
      left = (scope) => {
        const value = first(scope);
        return truth(value) === decisive ? value : second(scope);
      };
    }
    return left;
  }

  private not(): Expression {
    if (!this.skip('not')) return this.comparison();
    const negated = this.not();
    return (scope) => {
      spend();
      return !truth(negated(scope));
    };
  }

  private comparison(): Expression {
    const first = this.sum();
    const rest: [(a: Value, b: Value) => boolean, Expression][] = [];
    for (;;) {
      const isNotIn = this.is('not') && this.tokens[this.at + 1]!.value === 'in';
      const operator = isNotIn ? 'not in' : this.is('==', '!=', '<', '<=', '>', '>=', 'in') ? this.token.value : null;
      if (operator === null) break;
      this.at += isNotIn ? 2 : 1;
      rest.push([comparisons[operator]!, this.sum()]);
    }
    if (rest.length === 0) return first;
    return (scope) => {
      let left = first(scope);
      for (const [holds, operand] of rest) {
        const right = operand(scope);
        if (!holds(left, right)) return false;
        left = right;
      }
      return true;
    };
  }

  private sum(): Expression {
    return this.binary(['+', '-'], () => this.concatenation());
  }

  private concatenation(): Expression {
    const product = () => this.binary(['*', '/', '//', '%'], () => this.binary(['**'], () => this.unary()));
    const parts = [product()];
    while (this.skip('~')) parts.push(product());
    return parts.length === 1 ? parts[0]! : (scope) => parts.map((part) => str(part(scope))).reduce(concatenate);
  }

  private binary(operators: readonly string[], operand: () => Expression): Expression {
    let left = operand();
    while (this.is(...operators)) {
      const operator = this.token.value;
      this.at++;
      const [first, second] = [left, operand()];
      if (operator === '+' && (this.markup.has(first) || this.markup.has(second))) left = this.addMarkup(first, second);
      else left = (scope) => operate(operator, first(scope), second(scope));
    }
    return left;
  }

  /** Python's `Markup`: text that is added to a text marked as safe is escaped. Unlike there, a variable keeps no mark. */
  private addMarkup(first: Expression, second: Expression): Expression {
    const [before, after] = [first, second].map((one): Expression => {
      return this.markup.has(one) ? one : (scope) => filter('escape', one(scope), noArguments(scope));
    }) as [Expression, Expression];
    const sum: Expression = (scope) => operate('+', before(scope), after(scope));
    this.markup.add(sum);
    return sum;
  }

  /** @param noCall leaves a last call to read, for call blocks. */
  protected unary(withFilters = true, noCall = false): Expression {
    let value: Expression;
    if (this.is('-', '+')) {
      const sign = this.expect('op') === '-' ? -1 : 1;
      const operand = this.unary(false);
      value = (scope) => operate('*', operand(scope), sign);
    } else {
      value = this.primary();
    }
    value = this.postfix(value, noCall);
    return withFilters ? this.filters(value) : value;
  }

  private primary(): Expression {
    const read = this.atom();
    const value: Expression = (scope) => {
      spend();
      return read(scope);
    };
    if (this.markup.has(read)) this.markup.add(value);
    return value;
  }

  private atom(): Expression {
    const { type, value } = this.token;
    if (this.is('(')) {
      this.at++;
      const inner = this.tuple({ empty: true });
      this.expect('op', ')');
      return inner;
    }
    if (this.is('[')) {
      const items = this.list('[', ']', () => this.expression());
      return (scope) => items.map((item) => item(scope));
    }
    if (this.is('{')) {
      const entries = this.list('{', '}', () => {
        const key = this.expression();
        this.expect('op', ':');
        return [key, this.expression()] as const;
      });
      return (scope) => newDict(entries.map(([key, item]) => [key(scope), item(scope)]));
    }
    if (type === 'string') {
      let literal = '';
      while (this.token.type === 'string') literal += stringOf(this.expect('string'));
      return () => literal;
    }
    if (type === 'integer' || type === 'float') {
      this.at++;
      const number = Number(value.replaceAll('_', '')); // `0x`, `0o` and `0b` too
      const literal = type === 'float' && Number.isInteger(number) ? new Float(number) : number;
      return () => literal;
    }
    if (type !== 'name') this.fail(value === '' ? `unexpected ${type.replace('_', ' ')}` : `unexpected '${value}'`);
    this.at++;
    this.uses.set(value, this.useCount(value) + 1);
    if (Object.hasOwn(constants, value)) return () => constants[value]!;
    return (scope) => scope.get(value);
  }

  private postfix(value: Expression, noCall = false): Expression {
    let result = value;
    for (;;) {
      const object = result;
      if (this.skip('.')) {
        const isNumber = this.token.type === 'integer';
        const name = this.expect(isNumber ? 'integer' : 'name');
        result = (scope) => (isNumber ? itemOf(object(scope), Number(name)) : attributeOf(object(scope), name));
      } else if (this.is('[')) {
        result = this.subscript(object);
      } else if (this.is('(') && !noCall) {
        result = this.callOf(object);
      } else {
        return result;
      }
    }
  }

  private callOf(callee: Expression): Expression {
    const given = this.arguments();
    return (scope) => call(callee(scope), given(scope));
  }

  private subscript(object: Expression): Expression {
    const parts = this.list('[', ']', () => this.slice());
    if (parts.length === 1) {
      const [part] = parts;
      if ('item' in part!) return (scope) => itemOf(object(scope), part.item(scope));
      const bounds = part as readonly (Expression | null)[];
      return (scope) => {
        const sliced = object(scope);
        return sliceOf(sliced, ...(bounds.map((bound) => bound?.(scope) ?? null) as [Value, Value, Value]));
      };
    }
    const items = parts.map((part) => ('item' in part ? part.item : this.fail('a slice has one dimension')));
    return (scope) => itemOf(object(scope), tupleOf(items.map((item) => item(scope))));
  }

  private slice(): { item: Expression } | (Expression | null)[] {
    const bound = (): Expression | null => (this.is(':', ']', ',') ? null : this.expression());
    const first = bound();
    if (!this.is(':')) return { item: first ?? this.fail('expected a subscript') };
    const bounds = [first];
    while (bounds.length < 3 && this.skip(':')) bounds.push(bound());
    while (bounds.length < 3) bounds.push(null);
    return bounds;
  }

  protected filters(value: Expression, first = false): Expression {
    let result = value;
    for (let isFirst = first; ; isFirst = false) {
      const operand = result;
      if (isFirst || this.skip('|')) {
        const name = this.dotted();
        const given = this.is('(') ? this.arguments() : noArguments;
        result = (scope) => filter(name, operand(scope), given(scope));
        if (['safe', 'e', 'escape', 'forceescape'].includes(name)) this.markup.add(result);
      } else if (!first && this.skip('is')) {
        result = this.test(operand);
      } else if (!first && this.is('(')) {
        result = this.callOf(operand);
      } else {
        return result;
      }
    }
  }

  private test(operand: Expression): Expression {
    const negated = this.skip('not');
    const name = this.dotted();
    let given: Arguments = noArguments;
    const { type } = this.token;
    if (this.is('(')) given = this.arguments();
    else if (
      (['name', 'string', 'integer', 'float'].includes(type) || this.is('[', '{')) &&
      !this.is('else', 'or', 'and', 'is', 'not', 'if', 'in')
    ) {
      const argument = this.postfix(this.primary());
      given = (scope) => [[argument(scope)], none];
    }
    return (scope) => test(name, operand(scope), given(scope)) !== negated;
  }

  private dotted(): string {
    let name = this.expect('name');
    while (this.skip('.')) name += `.${this.expect('name')}`;
    return name;
  }

  protected arguments(): Arguments {
    const positional: { spread: boolean; value: Expression }[] = [];
    const named: { name: string | null; value: Expression }[] = [];
    this.list('(', ')', () => {
      const isNamed = this.token.type === 'name' && this.tokens[this.at + 1]!.value === '=' && this.tokens[this.at + 1]!.type === 'op';
      if (this.skip('*')) positional.push({ spread: true, value: this.expression() });
      else if (this.skip('**')) named.push({ name: null, value: this.expression() });
      else if (isNamed) {
        const name = this.expect('name');
        this.at++;
        named.push({ name, value: this.expression() });
      } else if (named.length > 0) this.fail('a positional argument follows one with a name');
      else positional.push({ spread: false, value: this.expression() });
    });
    return (scope) => [
      positional.flatMap(({ spread, value }) => (spread ? iterate(value(scope)) : [value(scope)])),
      new Map(named.flatMap(({ name, value }) => (name === null ? entriesOf(value(scope)) : [[name, value(scope)] as const]))),
    ];
  }

  protected list<T>(open: string, close: string, item: () => T): T[] {
    const items: T[] = [];
    this.expect('op', open);
    while (!this.is(close)) {
      if (items.length > 0) this.expect('op', ',');
      if (this.is(close)) break;
      items.push(item());
    }
    this.at++;
    return items;
  }
}

const none: Named = new Map();
const noArguments: Arguments = () => [[], none];
