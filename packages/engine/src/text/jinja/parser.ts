import { spend, spendOn } from './budget.ts';
import { type Expression, ExpressionParser } from './expressions.ts';
import { tokenize } from './lexer.ts';
import { call, itemOf } from './methods.ts';
import { equals } from './operators.ts';
import { type Assign, Scope } from './scope.ts';
import { type Callable, iterate, JinjaError, Namespace, str, truth, tupleOf, Undefined, type Value } from './values.ts';

export interface Output {
  text: string;
}
/** Says how a loop goes on after it. */
type Signal = 'break' | 'continue' | undefined;
type Statement = (scope: Scope, out: Output) => Signal;
type Parameter = readonly [name: string, otherwise: Expression | null];

/** A template as one function, which writes to its output. @throws JinjaError with its line */
export function parse(source: string): (scope: Scope, out: Output) => void {
  return new Parser(tokenize(source)).template();
}

/** Reads statements as functions. */
class Parser extends ExpressionParser {
  template(): Statement {
    const body = this.body([]);
    if (this.token.type !== 'eof') this.fail(`unexpected '${this.token.value}'`);
    return body;
  }

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
          spend();
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
    const uses = this.useCount('loop');
    const body = this.body(['endfor', 'else']);
    const usesLoop = this.useCount('loop') > uses;
    const otherwise = this.skip('else') ? this.bodyTo('endfor') : null;
    if (otherwise === null) this.endTag();

    const run = (scope: Scope, out: Output, values: Value, depth: number): Signal => {
      const turn = (item: Value): Scope => {
        spend(stepsPerTurn);
        const inner = new Scope(scope);
        assign(inner, item);
        return inner;
      };
      const items = iterate(values).filter((item) => condition === null || truth(condition(turn(item))));
      const again: Callable = ([inner = null]) => captured((from, output) => run(from, output, inner, depth + 1))(scope);
      const changed = whetherChanged();
      for (const [index, item] of items.entries()) {
        const inner = turn(item);
        if (usesLoop) {
          spend(stepsPerPlace);
          const facts = { ...placeIn(items, index, depth), changed };
          inner.set('loop', new Namespace(new Map<Value, Value>(Object.entries(facts)), recursive ? again : undefined));
        }
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
    const callee = this.unary(false, true);
    const given = this.is('(') ? this.arguments() : this.fail('expected a call');
    const make = this.callable('caller', parameters, 'endcall');
    return (scope, out) => {
      const [args, named] = given(scope);
      return append(out, str(call(callee(scope), [args, new Map([...named, ['caller', make(scope)]])])));
    };
  }

  /** The body of a macro or call block as a function of the scope that it is defined in. */
  private callable(name: string, parameters: readonly Parameter[], end: string): (scope: Scope) => Value {
    const [varargs, kwargs] = [this.useCount('varargs'), this.useCount('kwargs')];
    const body = captured(this.bodyTo(end));
    const [takesMore, takesNamed] = [this.useCount('varargs') > varargs, this.useCount('kwargs') > kwargs];
    return (scope) => (args, named) => {
      const inner = new Scope(scope);
      const others = new Map(named);
      inner.set('caller', named.get('caller') ?? new Undefined("'caller' is undefined"));
      others.delete('caller');
      for (const [index, [parameter]] of parameters.entries()) {
        const given = index < args.length ? args[index] : named.get(parameter);
        inner.set(parameter, given === undefined ? new Undefined(`parameter '${parameter}' was not provided`) : given);
        others.delete(parameter);
      }
      for (const [index, [parameter, otherwise]] of parameters.entries()) {
        if (index >= args.length && !named.has(parameter) && otherwise !== null) inner.set(parameter, otherwise(inner));
      }
      const [unknown] = others.keys();
      if (takesMore) inner.set('varargs', tupleOf(args.slice(parameters.length)));
      else if (args.length > parameters.length)
        throw new JinjaError(`macro '${name}' takes not more than ${parameters.length} argument(s)`);
      if (takesNamed) inner.set('kwargs', others);
      else if (unknown !== undefined) throw new JinjaError(`macro '${name}' takes no keyword argument '${unknown}'`);
      return body(inner);
    };
  }

  private parameters(): Parameter[] {
    return this.list('(', ')', () => [this.expect('name'), this.skip('=') ? this.expression() : null] as const);
  }
}

/** The work for the scope of a turn. */
const stepsPerTurn = 3;
/** The work for a `loop`. */
const stepsPerPlace = 20;

/** The attributes of `loop`. */
function placeIn(items: readonly Value[], index: number, depth: number): Record<string, Value> {
  const neighbour = (at: number): Value => (at in items ? items[at]! : new Undefined('the loop has no such item'));
  const left = items.length - index;
  return {
    index: index + 1,
    index0: index,
    revindex: left,
    revindex0: left - 1,
    first: index === 0,
    last: left === 1,
    length: items.length,
    depth: depth + 1,
    depth0: depth,
    previtem: neighbour(index - 1),
    nextitem: neighbour(index + 1),
    cycle: (args) => itemOf(args, index % args.length),
  };
}

/** `loop.changed`: whether its arguments differ from those of the call before. */
function whetherChanged(): Callable {
  let last: Value[] | null = null;
  return (args) => {
    const isChanged = last === null || !equals(args, last);
    last = args;
    return isChanged;
  };
}

/** Where a block's text is kept for its filters; no template can name it. */
const captureName = '(captured)';

function append(out: Output, text: string): undefined {
  spendOn(text);
  out.text += text;
}

const captured =
  (body: Statement) =>
  (scope: Scope): string => {
    const out = { text: '' };
    body(scope, out);
    return out.text;
  };
