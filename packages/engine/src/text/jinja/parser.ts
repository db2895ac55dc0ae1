import { attributeOf, call, filter, itemOf, sliceOf, test } from './builtins.ts';
import { stringOf, type Token, tokenize } from './lexer.ts';
import {
  compare,
  contains,
  equals,
  Float,
  iterate,
  JinjaError,
  Namespace,
  operate,
  str,
  truth,
  tupleOf,
  Undefined,
  type Value,
} from './values.ts';

/** The variables of a block; those of the blocks around it are read through it. */
export class Scope {
  private readonly variables = new Map<string, Value>();
  private readonly parent: Scope | null;

  constructor(parent: Scope | null) {
    this.parent = parent;
  }

  get(name: string): Value {
    return this.variables.get(name) ?? this.inherited(name);
  }

  set(name: string, value: Value): void {
    this.variables.set(name, value);
  }

  private inherited(name: string): Value {
    if (this.variables.has(name)) return null;
    return this.parent === null ? new Undefined(`'${name}' is undefined`) : this.parent.get(name);
  }
}

type Expression = (scope: Scope) => Value;
type Assign = (scope: Scope, value: Value) => void;
export interface Output {
  text: string;
}
/** Says how a loop goes on after it. */
type Signal = 'break' | 'continue' | undefined;
type Statement = (scope: Scope, out: Output) => Signal;
type Parameter = readonly [name: string, otherwise: Expression | null];
type Arguments = (scope: Scope) => Parameters<typeof call>[1];

/** A template as one function, which writes to its output. @throws JinjaError with its line */
export function parse(source: string): (scope: Scope, out: Output) => void {
  return new Parser(tokenize(source)).template();
}

const constants: Readonly<Record<string, Value>> = { true: true, false: false, none: null, True: true, False: false, None: null };
const comparisons: Readonly<Record<string, (a: Value, b: Value) => boolean>> = {
  '==': equals,
  '!=': (a, b) => !equals(a, b),
  '<': (a, b) => compare(a, b) < 0,
  '<=': (a, b) => compare(a, b) <= 0,
  '>': (a, b) => compare(a, b) > 0,
  '>=': (a, b) => compare(a, b) >= 0,
  in: (a, b) => contains(b, a),
  'not in': (a, b) => !contains(b, a),
};

/** Turns the tokens into nested functions by Jinja's grammar (`jinja2/parser.py`): each method reads one production. */
class Parser {
  private readonly tokens: readonly Token[];
  /** Expressions whose text a filter marked as safe. */
  private readonly markup = new WeakSet<Expression>();
  private at = 0;

  constructor(tokens: readonly Token[]) {
    this.tokens = tokens;
  }

  template(): Statement {
    const body = this.body([]);
    if (this.token.type !== 'eof') this.fail(`unexpected '${this.token.value}'`);
    return body;
  }

  private get token(): Token {
    return this.tokens[this.at]!;
  }

  private is(...values: string[]): boolean {
    return (this.token.type === 'op' || this.token.type === 'name') && values.includes(this.token.value);
  }

  private skip(value: string): boolean {
    const found = this.is(value);
    if (found) this.at++;
    return found;
  }

  private expect(type: Token['type'], value?: string): string {
    const { token } = this;
    if (token.type !== type || (value !== undefined && token.value !== value)) {
      this.fail(
        `expected ${value === undefined ? type.replace('_', ' ') : `'${value}'`}, got ${token.value === '' ? token.type : `'${token.value}'`}`,
      );
    }
    this.at++;
    return token.value;
  }

  private fail(what: string): never {
    throw new JinjaError(what, this.token.line);
  }

  // Statements

  /** Up to a tag of one of these names, which is left to read. */
  private body(ends: readonly string[]): Statement {
    const statements: { line: number; run: Statement }[] = [];
    for (;;) {
      const { type, value, line } = this.token;
      if (type === 'eof') {
        if (ends.length > 0) this.fail(`the template ends before {% ${ends.join(' %} or {% ')} %}`);
        break;
      }
      this.at++;
      if (type === 'data') statements.push({ line, run: (_scope, out) => append(out, value) });
      else if (type === 'variable_begin') statements.push({ line, run: this.print() });
      else if (ends.includes(this.token.value)) break;
      else statements.push({ line, run: this.statement() });
    }
    return (scope, out) => {
      for (const { line, run } of statements) {
        try {
          const signal = run(scope, out);
          if (signal !== undefined) return signal;
        } catch (error) {
          if (error instanceof RangeError) throw new JinjaError(error.message, line); // the stack or a string grew too large
          if (error instanceof JinjaError) error.line ??= line;
          throw error;
        }
      }
      return undefined;
    };
  }

  /** The body and its end tag. */
  private bodyTo(end: string): Statement {
    this.expect('block_end');
    const body = this.body([end]);
    this.endTag();
    return body;
  }

  private endTag(): void {
    this.at++;
    this.expect('block_end');
  }

  private print(): Statement {
    const expression = this.tuple();
    this.expect('variable_end');
    return (scope, out) => append(out, str(expression(scope)));
  }

  private statement(): Statement {
    const name = this.expect('name');
    switch (name) {
      case 'if':
        return this.if();
      case 'for':
        return this.for();
      case 'set':
        return this.set();
      case 'macro':
        return this.macro();
      case 'call':
        return this.call();
      case 'filter':
        return this.filterBlock();
      case 'with':
        return this.with();
      case 'generation': {
        const body = captured(this.bodyTo('endgeneration'));
        return (scope, out) => append(out, body(new Scope(scope)));
      }
      case 'break':
      case 'continue':
        this.expect('block_end');
        return () => name;
      default:
        this.at--;
        return this.fail(`unknown tag '${name}'`);
    }
  }

  private if(): Statement {
    const test = this.tuple({ conditions: false });
    this.expect('block_end');
    const body = this.body(['elif', 'else', 'endif']);
    let otherwise: Statement = () => undefined;
    if (this.skip('elif')) otherwise = this.if();
    else if (this.skip('else')) otherwise = this.bodyTo('endif');
    else this.endTag();
    return (scope, out) => (truth(test(scope)) ? body : otherwise)(scope, out);
  }

  private for(): Statement {
    const assign = this.targets();
    this.expect('name', 'in');
    const iterable = this.tuple({ conditions: false, end: 'recursive' });
    const condition = this.skip('if') ? this.expression() : null;
    const recursive = this.skip('recursive');
    this.expect('block_end');
    const body = this.body(['endfor', 'else']);
    const otherwise = this.skip('else') ? this.bodyTo('endfor') : null;
    if (otherwise === null) this.endTag();

    const run = (scope: Scope, out: Output, values: Value, depth: number): Signal => {
      const items = iterate(values).filter((item) => {
        if (condition === null) return true;
        const inner = new Scope(scope);
        assign(inner, item);
        return truth(condition(inner));
      });
      const again = (inner: Value): Value => {
        const output = { text: '' };
        run(scope, output, inner, depth + 1);
        return output.text;
      };
      let changed: readonly Value[] | null = null;
      const functions = {
        cycle: (index: number) => (args: Value[]) => args[index % args.length]!,
        changed: (args: Value[]) => {
          const same = changed !== null && equals(args, [...changed]);
          changed = args;
          return !same;
        },
      };
      for (const [index, item] of items.entries()) {
        const inner = new Scope(scope);
        assign(inner, item);
        const left = items.length - index;
        const nowhere = (which: string) => new Undefined(`there is no ${which} item`);
        const facts: Record<string, Value> = {
          index: index + 1,
          index0: index,
          revindex: left,
          revindex0: left - 1,
          first: index === 0,
          last: left === 1,
          length: items.length,
          depth: depth + 1,
          depth0: depth,
          previtem: index > 0 ? items[index - 1]! : nowhere('previous'),
          nextitem: left > 1 ? items[index + 1]! : nowhere('next'),
          cycle: functions.cycle(index),
          changed: functions.changed,
        };
        inner.set('loop', new Namespace(new Map(Object.entries(facts)), recursive ? ([values]) => again(values ?? null) : undefined));
        if (body(inner, out) === 'break') break;
      }
      return items.length === 0 ? otherwise?.(scope, out) : undefined;
    };
    return (scope, out) => run(scope, out, iterable(scope), 0);
  }

  private set(): Statement {
    const assign = this.targets();
    if (this.skip('=')) {
      const value = this.tuple();
      this.expect('block_end');
      return (scope) => void assign(scope, value(scope));
    }
    const filters = this.is('|') ? this.filters((scope) => scope.get(captureName)) : null;
    const body = captured(this.bodyTo('endset'));
    return (scope) => {
      const inner = new Scope(scope);
      inner.set(captureName, body(inner));
      assign(scope, (filters ?? ((from: Scope) => from.get(captureName)))(inner));
    };
  }

  private filterBlock(): Statement {
    const filters = this.filters((scope) => scope.get(captureName), true);
    const body = captured(this.bodyTo('endfilter'));
    return (scope, out) => {
      const inner = new Scope(scope);
      inner.set(captureName, body(inner));
      return append(out, str(filters(inner)));
    };
  }

  private with(): Statement {
    const given: [Assign, Expression][] = [];
    while (this.token.type !== 'block_end') {
      if (given.length > 0) this.expect('op', ',');
      const assign = this.target();
      this.expect('op', '=');
      given.push([assign, this.expression()]);
    }
    const body = this.bodyTo('endwith');
    return (scope, out) => {
      const inner = new Scope(scope);
      for (const [assign, value] of given) assign(inner, value(scope));
      return body(inner, out);
    };
  }

  private macro(): Statement {
    const name = this.expect('name');
    const make = this.callable(name, this.parameters(), 'endmacro');
    return (scope) => void scope.set(name, make(scope));
  }

  private call(): Statement {
    const parameters = this.is('(') ? this.parameters() : [];
    const { line } = this.token;
    const callee = this.unary(false, true);
    const given = this.is('(') ? this.arguments() : this.fail('expected a call');
    const make = this.callable('caller', parameters, 'endcall');
    return (scope, out) => {
      const [args, named] = given(scope);
      try {
        return append(out, str(call(callee(scope), [args, { ...named, caller: make(scope) }])));
      } catch (error) {
        if (error instanceof JinjaError) error.line ??= line;
        throw error;
      }
    };
  }

  /** The body of a macro or call block as a function of the scope that it is defined in. */
  private callable(name: string, parameters: readonly Parameter[], end: string): (scope: Scope) => Value {
    const from = this.at;
    const body = captured(this.bodyTo(end));
    const mentions = (variable: string): boolean =>
      this.tokens.slice(from, this.at).some(({ type, value }) => type === 'name' && value === variable);
    const [takesMore, takesNamed] = [mentions('varargs'), mentions('kwargs')];
    return (scope) => (args, named) => {
      const inner = new Scope(scope);
      const { caller, ...others } = named;
      inner.set('caller', caller ?? new Undefined("'caller' is undefined"));
      for (const [index, [parameter]] of parameters.entries()) {
        const given = args[index] ?? (index < args.length ? null : named[parameter]);
        inner.set(parameter, given === undefined ? new Undefined(`parameter '${parameter}' was not provided`) : given);
        delete (others as Record<string, Value>)[parameter];
      }
      for (const [index, [parameter, otherwise]] of parameters.entries()) {
        if (index >= args.length && !(parameter in named) && otherwise !== null) inner.set(parameter, otherwise(inner));
      }
      const [unknown] = Object.keys(others);
      if (takesMore) inner.set('varargs', tupleOf(args.slice(parameters.length)));
      else if (args.length > parameters.length)
        throw new JinjaError(`macro '${name}' takes not more than ${parameters.length} argument(s)`);
      if (takesNamed) inner.set('kwargs', new Map(Object.entries(others)));
      else if (unknown !== undefined) throw new JinjaError(`macro '${name}' takes no keyword argument '${unknown}'`);
      return body(inner);
    };
  }

  private parameters(): Parameter[] {
    return this.list('(', ')', () => [this.expect('name'), this.skip('=') ? this.expression() : null] as const);
  }

  // Targets of assignments

  private targets(): Assign {
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

  private target(): Assign {
    if (this.skip('(')) {
      const assign = this.targets();
      this.expect('op', ')');
      return assign;
    }
    const name = this.expect('name');
    if (name in constants) this.fail(`can't assign to '${name}'`);
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
  private tuple({ conditions = true, end, empty = false }: { conditions?: boolean; end?: string; empty?: boolean } = {}): Expression {
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

  private expression(): Expression {
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
    let left = this.and();
    while (this.skip('or')) {
      const [first, second] = [left, this.and()];
      left = (scope) => {
        const value = first(scope);
        return truth(value) ? value : second(scope);
      };
    }
    return left;
  }

  private and(): Expression {
    let left = this.not();
    while (this.skip('and')) {
      const [first, second] = [left, this.not()];
      left = (scope) => {
        const value = first(scope);
        return truth(value) ? second(scope) : value;
      };
    }
    return left;
  }

  private not(): Expression {
    if (!this.skip('not')) return this.comparison();
    const negated = this.not();
    return (scope) => !truth(negated(scope));
  }

  private comparison(): Expression {
    const first = this.binary(['+', '-'], () => this.concatenation());
    const rest: [(a: Value, b: Value) => boolean, Expression][] = [];
    for (;;) {
      const isNotIn = this.is('not') && this.tokens[this.at + 1]!.value === 'in';
      const operator = isNotIn ? 'not in' : this.is('==', '!=', '<', '<=', '>', '>=', 'in') ? this.token.value : null;
      if (operator === null) break;
      this.at += isNotIn ? 2 : 1;
      rest.push([comparisons[operator]!, this.binary(['+', '-'], () => this.concatenation())]);
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

  private concatenation(): Expression {
    const product = () => this.binary(['*', '/', '//', '%'], () => this.binary(['**'], () => this.unary()));
    const parts = [product()];
    while (this.skip('~')) parts.push(product());
    return parts.length === 1 ? parts[0]! : (scope) => parts.map((part) => str(part(scope))).join('');
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

  /** Python's `Markup`: what is added to text that a filter marked as safe is escaped. Marks do not outlive their expression here. */
  private addMarkup(first: Expression, second: Expression): Expression {
    const [before, after] = [first, second].map((one): Expression => {
      return this.markup.has(one) ? one : (scope) => filter('escape', one(scope), [[], {}]);
    }) as [Expression, Expression];
    const sum: Expression = (scope) => operate('+', before(scope), after(scope));
    this.markup.add(sum);
    return sum;
  }

  /** @param noCall leaves a last call to read, for call blocks. */
  private unary(withFilters = true, noCall = false): Expression {
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
      return (scope) => new Map(entries.map(([key, item]) => [key(scope), item(scope)]));
    }
    if (type === 'string') {
      let text = '';
      while (this.token.type === 'string') text += stringOf(this.expect('string'));
      return () => text;
    }
    if (type === 'integer' || type === 'float') {
      this.at++;
      const number = Number(value.replaceAll('_', '')); // `0x`, `0o` and `0b` too
      const literal = type === 'float' && Number.isInteger(number) ? new Float(number) : number;
      return () => literal;
    }
    if (type !== 'name') this.fail(value === '' ? `unexpected ${type.replace('_', ' ')}` : `unexpected '${value}'`);
    this.at++;
    if (value in constants) return () => constants[value]!;
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

  private filters(value: Expression, first = false): Expression {
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
      given = (scope) => [[argument(scope)], {}];
    }
    return (scope) => test(name, operand(scope), given(scope)) !== negated;
  }

  private dotted(): string {
    let name = this.expect('name');
    while (this.skip('.')) name += `.${this.expect('name')}`;
    return name;
  }

  private arguments(): Arguments {
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
      Object.fromEntries(
        named.flatMap(({ name, value }) => (name === null ? [...(value(scope) as Map<string, Value>)] : [[name, value(scope)] as const])),
      ),
    ];
  }

  private list<T>(open: string, close: string, item: () => T): T[] {
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

/** Where a block's text is kept for its filters; no template can name it. */
const captureName = '(captured)';

const noArguments: Arguments = () => [[], {}];

function append(out: Output, text: string): undefined {
  out.text += text;
}

const captured =
  (body: Statement) =>
  (scope: Scope): string => {
    const out = { text: '' };
    body(scope, out);
    return out.text;
  };

const unpack =
  (targets: readonly Assign[]): Assign =>
  (scope, value) => {
    const items = iterate(value);
    if (items.length !== targets.length) throw new JinjaError(`cannot unpack ${items.length} values into ${targets.length} names`);
    for (const [index, assign] of targets.entries()) assign(scope, items[index]!);
  };
