import { expect, test } from 'vitest';
import { constructorOf, declaresFields } from './class-source.ts';

/** Classes as an engine sees them, written out so that no compiler stands between. */
const evaluate = (source: string): object => new Function('Base', `return (${source})`)(class {});

test.each<[string, boolean, ReturnType<typeof constructorOf>]>([
  ['class { forward(x) { return this.x; } }', false, 'none'],
  ['class { x = 1; }', true, 'none'],
  ['class { x }', true, 'none'],
  ['class { #x = 1; get x() { return this.#x; } }', true, 'none'],
  ['class { static region = { a: "}" }; static { this.z = 1; } forward() {} }', false, 'none'],
  [
    'class {\n  a() { return /[}/]/.test(`}$' +
      '{{ b: "}" }.b}`) }\n  // x = 1;\n  /* y = 2; */\n  async *b() {}\n  get [Symbol.iterator]() { return 1; }\n}',
    false,
    'none',
  ],
  ['class {\n  a(x) { return x / 2 / 3; }\n  b = 1\n}', true, 'none'],
  ['class { "quoted name"(a = {}) {} static async get() {} }', false, 'none'],
  ['class extends Base { constructor(a, b) { super(a); } }', false, 'own'],
  ['class extends Base { constructor(a) { super(a); this.a = a; } }', true, 'own'],
  ['class extends Base { constructor() { super(...arguments); } }', false, 'pass-through'],
  ['class extends Base { constructor() { super(...arguments); __publicField(this, "x", 1); } }', true, 'pass-through'],
  ['class extends Base { make() { return new this.constructor(1); } }', false, 'none'],
  ['class { make() { return `$' + '{`}`}`; } }', false, 'none'],
  ['class { run() {}\n  static list =\n    Base\n    .name }', false, 'none'],
  ['function Old() {}', false, 'none'],
])('%s', (source, fields, ownConstructor) => {
  const Class = evaluate(source);
  expect(declaresFields(Class)).toBe(fields);
  expect(constructorOf(Class)).toBe(ownConstructor);
});
