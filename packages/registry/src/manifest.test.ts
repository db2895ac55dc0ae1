import { describe, expect, test } from 'vitest';
import { buildManifest, renderManifest } from './build-manifest.ts';
import type { ManifestClass } from './manifest.ts';

const of = (...texts: string[]) =>
  buildManifest(
    { name: 'upstream', version: '1.2.3' },
    texts.map((text, i) => ({ path: `source-${i}.ts`, text })),
  );
const classOf = (body: string, head = 'export class A'): ManifestClass => of(`${head} {${body}}`).classes['A']!;
const hashOf = (method: string): string | null => classOf(method).methods['f']!.hash;

const original = "f(x, { y = [1, 2] }) { const z = x + y[0]; if (z > 1) return { kind: 'a', z }; return null; }";

describe('the hash of a method stays', () => {
  test.each([
    [
      'comments',
      "/** Doc. */ f(x, { y = [1, 2] }) { const z = x + y[0]; // why\n if (z > 1) return { kind: 'a', z }; /* c */ return null; }",
    ],
    [
      'types',
      "public override f<T>(x: number, { y = [1, 2] }: { y?: number[] }): { kind: string } | null { const z: number = (x as number) + y![0]!; if (z > 1) return { kind: 'a', z } satisfies object; return null; }",
    ],
    [
      'line breaks, quotes, semicolons, trailing commas and needless brackets',
      'f(\n  x,\n  { y = [1, 2,] },\n) {\n  const z = (x + y[0])\n  if (z > 1) return ({\n    kind: "a",\n    z,\n  })\n\n  return null\n}',
    ],
  ])('when %s change', (_, changed) => {
    expect(hashOf(changed)).toBe(hashOf(original));
  });
});

describe('the hash of a method changes', () => {
  test.each([
    ['a constant', original.replace('z > 1', 'z > 2')],
    ['an operator', original.replace('z > 1', 'z >= 1')],
    ['a name', original.replaceAll('x', 'w')],
    ['a default', original.replace('[1, 2]', '[1, 3]')],
    ['the text of a string', original.replace("'a'", "'b'")],
    ['the order of statements', 'f(x, { y = [1, 2] }) { if (z > 1) return { kind: "a", z }; const z = x + y[0]; return null; }'],
    ['const to let', original.replace('const', 'let')],
    ['async', `async ${original}`],
  ])('with %s', (_, changed) => {
    expect(hashOf(changed)).not.toBe(hashOf(original));
  });

  test.each([
    ['the sign of a prefix', 'f(a) { return -a; }', 'f(a) { return +a; }'],
    ['an optional chain that ends early', 'f(a) { return a?.b.c; }', 'f(a) { return (a?.b).c; }'],
    ['the part of a loop that an expression is', 'f(a) { for (a; ; ) return; }', 'f(a) { for (; a; ) return; }'],
    ['a pattern that renames to one with a default', 'f({ a: b }) { return b; }', 'f({ a = b }) { return b; }'],
    ['the pattern of a regular expression', 'f(a) { return /a/.test(a); }', 'f(a) { return /b/.test(a); }'],
    ['what brackets group', 'f(a, b, c) { return (a + b) * c; }', 'f(a, b, c) { return a + b * c; }'],
  ])('with %s', (_, before, after) => {
    expect(hashOf(before)).not.toBe(hashOf(after));
  });

  test('with a decorator or its options, which do something', () => {
    const hashes = ['f() {}', '@Hook() f() {}', "@Hook({ modes: ['lazy'] }) f() {}"].map(hashOf);
    expect(new Set(hashes).size).toBe(3);
  });
});

describe('a class', () => {
  test('has its base, fields, accessors and methods with their parameters', () => {
    const { base, fields, accessors, methods } = classOf(
      `static region = 'a'; readonly size: number = 1; declare name: string; bias;
       constructor(size: number, ...rest: number[]) { super(); }
       get length(): number { return 1; } set length(value: number) {}
       forward(x: T, { mask = null }: O = {}): T { return x; }
       static of(x) { return new A(x); }
       *[Symbol.iterator]() {}`,
      'export class A extends Base<T>',
    );
    expect({ base, fields }).toEqual({ base: 'Base', fields: ['static region', 'size', 'bias', 'name'] });
    const parameters = (members: ManifestClass['methods']) => Object.entries(members).map(([name, facts]) => [name, ...facts.parameters]);
    expect(parameters(accessors)).toEqual([['get length'], ['set length', 'value']]);
    expect(parameters(methods)).toEqual([
      ['constructor', 'size', '...rest'],
      ['forward', 'x', '{ mask = null }'],
      ['static of', 'x'],
      ['[Symbol.iterator]'],
    ]);
  });

  test('keeps of overloads the one that runs', () => {
    const overloaded = classOf('f(a: string): string; f(a: number, b: number): number; f(a: unknown, b?: unknown): unknown { return a; }');
    expect(overloaded.methods['f']).toEqual(classOf('f(a, b) { return a; }').methods['f']);
  });

  test('has abstract methods without a hash, and fields that the constructor declares', () => {
    const { methods, fields } = classOf(
      'constructor(private readonly size: number) {} abstract f(x: number): void;',
      'export abstract class A',
    );
    expect(methods['f']).toEqual({ parameters: ['x'], hash: null });
    expect(fields).toEqual(['size']);
  });

  test('has no private name, and is in the manifest when it is exported', () => {
    expect(classOf('#secret = 1; #f() {} g() { return this.#secret; }')).toMatchObject({ fields: [], methods: { g: { parameters: [] } } });
    const { classes } = of('class A {} class B {} class C {} export { A, B as Other }; export default class D {}');
    expect(Object.keys(classes)).toEqual(['A', 'B', 'D']);
  });
});

test('two sources that export one name are an error that names both', () => {
  expect(() => of('export class A {}', 'export class A {}')).toThrow(/A is exported by source-0\.ts too[\s\S]*where: source-1\.ts/);
});

test('a source that does not parse is an error that names it', () => {
  expect(() => of('export class A { f( }')).toThrow('where: source-0.ts');
});

test('what is written is a module that gives the manifest back', async () => {
  const manifest = of('export class A extends B { size = 1; get n() { return 1; } f(x = "it\'s") { return x; } }');
  const code = renderManifest(manifest)
    .replace(/^import type .*$/m, '')
    .replace(': UpstreamManifest', '');
  const module = (await import(`data:text/javascript,${encodeURIComponent(code)}`)) as { manifest: unknown };
  expect(module.manifest).toEqual(manifest);
});
