import { describe, expect, test } from 'vitest';
import { JinjaTemplate } from './template.ts';

type Row = [title: string, source: string, expected: string, variables?: Record<string, unknown>];

const render = (source: string, variables: Record<string, unknown> = {}): string => new JinjaTemplate(source).render(variables);

// Each expected text is what transformers 5.24 with Jinja 3.1.6 renders.
const rows: Record<string, Row[]> = {
  'blanks and line breaks': [
    ['every line break of a template becomes \\n, those of the values stay', 'a\r\n{{ x }}\rb\r\n', 'a\nx\r\ny\nb', { x: 'x\r\ny' }],
    ['a line that holds only a block leaves nothing', 'a\n  {% if true %}\n  b\n  {% endif %}\nc', 'a\n  b\nc'],
    ['a line that holds only an expression keeps its blanks', 'a\n  {{ 1 }}\n  b', 'a\n  1\n  b'],
    ['a comment is trimmed like a block', 'a\n  {# x #}\nb{# y -#}  \n c', 'a\nbc'],
    ['a plus sign keeps the blanks of a block', 'a\n  {%+ if true +%}\nb{% endif %}', 'a\n  \nb'],
    ['a minus sign strips all blanks on its side', 'a \n {%- if true -%} \n b \n {%- endif %} c', 'ab c'],
    ['raw text is left as it is', '{% raw %}{{ x }}{% if %}{% endraw %}!', '{{ x }}{% if %}!'],
    ['only one line break at the end is dropped', 'a\n\n', 'a\n'],
    ['a brace inside an expression does not end it', "{{ {'a': {'b': 1}}['a']['b'] }}", '1'],
    [
      'a generation block prints its body and keeps its variables',
      '{% generation %}{% set x = 1 %}{{ x }}{% endgeneration %}[{{ x }}]',
      '1[]',
    ],
    ['escapes are those of Python, and an unknown one stays', "{{ '\\x41\\u00e9\\101\\d\\\\n\\'' }}", "AéA\\d\\n'"],
  ],
  strings: [
    [
      'strip takes characters',
      "[{{ x.lstrip('\\n') }}][{{ x.rstrip('-\\n') }}][{{ x.strip('\\n-') }}]",
      '[    return x-][\n\n    return x][    return x]',
      { x: '\n\n    return x-' },
    ],
    ['strip without characters takes what Python calls a space', '[{{ x.strip() }}][{{ x | trim }}]', '[﻿a][﻿a]', { x: '\u001c　﻿a ' }],
    [
      'split by blanks and by text, with a limit',
      "{{ x.split() }}{{ x.split(' ') }}{{ x.split(none, 1) }}{{ x.rsplit(none, 1) }}{{ x.rsplit(' ', 1) }}{{ x.split(',', maxsplit=1) }}{{ ''.split() }}{{ ''.split(',') }}",
      "['a', 'b', 'c,d']['', 'a', '', 'b', 'c,d', '']['a', 'b c,d '][' a  b', 'c,d'][' a  b c,d', ''][' a  b c', 'd '][]['']",
      { x: ' a  b c,d ' },
    ],
    [
      'length, index and slices count code points',
      '{{ x | length }}{{ x[1] }}{{ x[::-1] }}{{ x[-2:] }}{{ x[0:2] }}',
      '3éaé🙂éa🙂é',
      { x: '🙂éa' },
    ],
    [
      'methods that tell and find',
      "{{ x.startswith(('x', 'Ab')) }}{{ x.endswith('z') }}{{ x.find('c') }}{{ x.rfind('?') }}{{ x.count('b') }}{{ '12'.isdigit() }}{{ 'a1'.isalnum() }}{{ ' '.isspace() }}{{ 'aB'.islower() }}",
      'TrueFalse2-12TrueTrueTrueFalse',
      { x: 'Abcb' },
    ],
    [
      'methods that change',
      "{{ x.title() }}|{{ x | title }}|{{ x.capitalize() }}|{{ x.upper() }}|{{ x.replace('l', 'L', 1) }}|{{ x.replace('', '.') }}|{{ x.partition(' ') }}|{{ x.removeprefix('he') }}|{{ '7'.zfill(3) }}|{{ x.rpartition(' ') }}|{{ x.removesuffix('s') }}|{{ '-'.join(['a', 'b']) }}|{{ 'a\\nb\\n'.splitlines() }}",
      "Hello World It'S 中B 🙂|Hello World It's 中b 🙂|Hello world it's 中b 🙂|HELLO WORLD IT'S 中B 🙂|heLlo wORLD it's 中b 🙂|.h.e.l.l.o. .w.O.R.L.D. .i.t.'.s. .中.b. .🙂.|('hello', ' ', \"wORLD it's 中b 🙂\")|llo wORLD it's 中b 🙂|007|(\"hello wORLD it's 中b\", ' ', '🙂')|hello wORLD it's 中b 🙂|a-b|['a', 'b']",
      { x: "hello wORLD it's 中b 🙂" },
    ],
    [
      'formats',
      "{{ '%s-%03d-%.2f%%' % ('a', 5, 1.005) }} {{ '{} {:>4} {x} {0[0]}'.format('ab', 'c', x=2) }} {{ '%s' | format(none) }} {{ '{:,}'.format(1234567) }}",
      'a-005-1.00% ab    c 2 a None 1,234,567',
    ],
    [
      'an order by code points',
      "{{ ['b', 'a', 'B', '🙂', '￿'] | sort }}{{ 'a' < 'b' }}{{ '￿' < '🙂' }}",
      "['a', 'b', 'B', '\\uffff', '🙂']TrueTrue",
    ],
  ],
  values: [
    [
      'lists and dicts print as Python writes them',
      '{{ x }}',
      "{'a': [1, 1.5, True, None], \"it's\": 'q\"\\'\\n\\\\é\\u200b', 'e': {}, 'l': []}",
      { x: { a: [1, 1.5, true, null], "it's": 'q"\'\n\\é​', e: {}, l: [] } },
    ],
    [
      'floats print as Python writes them',
      '{{ 4 / 2 }} {{ 1e16 }} {{ 1.0 }} {{ x }} {{ 0.1 + 0.2 }} {{ 7 // 2 }} {{ 7.0 // 2 }} {{ -7 % 3 }} {{ 2 ** 3 }} {{ 2 ** -1 }}',
      '2.0 1e+16 1.0 1e-05 0.30000000000000004 3 3.0 2 8 0.5',
      { x: 1e-5 },
    ],
    [
      'an empty string is no false value, and one is true',
      "{{ '' == false }}{{ 0 == false }}{{ 1 == true }}{{ none == '' }}{{ [] == [] }}{{ [1, {'a': 2}] == [1, {'a': 2}] }}{{ [1] == (1,) }}{{ '1' == 1 }}",
      'FalseTrueTrueFalseTrueTrueFalseFalse',
    ],
    [
      'none in a namespace is none',
      '{% set n = namespace(a=none) %}{{ n.a }}{{ n.a is none }}{{ n.b is defined }}{{ x.a }}{{ [none][0] }}{{ [none] | first }}[{{ self.x }}]',
      'NoneTrueFalseNoneNoneNone[]',
      { x: { a: null } },
    ],
    [
      'membership',
      "{{ 'a' in 'cat' }}{{ 'a' in {'a': 1} }}{{ 1 in [1.0] }}{{ {'a': 1} in [{'a': 1}] }}{{ 'x' not in ['y'] }}{{ 'a' in missing }}",
      'TrueTrueTrueTrueTrueFalse',
    ],
    ['comparisons chain', '{{ 1 < 2 < 3 }}{{ 1 < 3 < 2 }}{{ 1 == 1.0 == true }}', 'TrueFalseTrue'],
    [
      'a missing value prints nothing and is empty',
      "[{{ missing }}][{{ missing | length }}][{{ missing | trim }}][{% for x in missing %}{% endfor %}][{{ x.y }}][{{ missing ~ 'a' }}][{{ [missing] }}][{{ x.y == missing }}]",
      '[][0][][][][a][[Undefined]][True]',
      { x: {} },
    ],
    [
      'a dict has its methods before its keys, and its keys in brackets',
      "{{ x.items is callable }}{{ x['items'] }}{{ x.get('no', 'd') }}{{ x.get('no') }}{{ x.keys() | list }}{{ x.values() | list }}{% for k, v in x.items() %}{{ k }}={{ v }};{% endfor %}",
      "True1dNone['items', 'b'][1, 2]items=1;b=2;",
      { x: { items: 1, b: 2 } },
    ],
    [
      'and, or and the inline if give values',
      "{{ 0 or 'a' }}{{ '' and 'b' }}{{ 'c' if false }}{{ 'd' if 1 else 'e' }}{{ not [] }}{{ [] or {} or none }}",
      'adTrueNone',
    ],
    [
      'tuples, and sums of lists',
      "{{ (1, 2) }}{{ (1,) }}{{ () }}{{ [1] + [2] }}{{ [0] * 3 }}{{ 'ab' * 2 }}{{ (1, 2)[1] }}{{ [1, 2, 3][-1] }}{{ [1, 2, 3][::-1] }}{{ [1, 2, 3][5] is defined }}{{ x[1:] }}",
      '(1, 2)(1,)()[1, 2][0, 0, 0]abab23[3, 2, 1]False[2]',
      { x: [1, 2] },
    ],
    [
      'literals of all bases',
      "{{ 0x1F }} {{ 1_000 }} {{ 0b11 }} {{ 1.5e3 }} {{ -3 }} {{ - 3 | abs }} {{ 'a' 'b' }}",
      '31 1000 3 1500.0 -3 3 ab',
    ],
  ],
  tojson: [
    [
      'escapes no HTML and keeps letters',
      '{{ x | tojson }}',
      '{"a": "<é>&\'\\"\\\\\\n", "b": [1, 2.5, true, null], "c": {}}',
      { x: { a: '<é>&\'"\\\n', b: [1, 2.5, true, null], c: {} } },
    ],
    [
      'takes the options of json.dumps',
      "{{ x | tojson(indent=2) }}{{ x | tojson(ensure_ascii=true, sort_keys=true, separators=(',', ':')) }}{{ x | tojson(indent=4, separators=(',', ': ')) }}{{ [] | tojson(indent=2) }}",
      '{\n  "b": [\n    1,\n    {\n      "c": "é🙂"\n    }\n  ],\n  "a": {}\n}{"a":{},"b":[1,{"c":"\\u00e9\\ud83d\\ude42\\u007f"}]}{\n    "b": [\n        1,\n        {\n            "c": "é🙂"\n        }\n    ],\n    "a": {}\n}[]',
      { x: { b: [1, { c: 'é🙂' }], a: {} } },
    ],
    [
      'writes floats and keys as Python does',
      "{{ {'a': 1.0, 1: 1e20, none: 0.00001, false: -0.0} | tojson }}",
      '{"a": 1.0, "1": 1e+20, "null": 1e-05, "false": -0.0}',
    ],
  ],
  statements: [
    [
      'a loop knows where it is',
      "{% for x in [5, 6, 7] %}{{ loop.index }}{{ loop.index0 }}{{ loop.revindex }}{{ loop.first }}{{ loop.last }}{{ loop.length }}{{ loop.previtem }}{{ loop.nextitem }}{{ loop.cycle('a', 'b') }}{{ loop.changed(x > 5) }};{% endfor %}",
      '103TrueFalse36aTrue;212FalseFalse357bTrue;321FalseTrue36aFalse;',
    ],
    [
      'a loop takes a condition and an else, and stops or goes on',
      '{% for x in range(9) if x % 2 %}{% if x == 3 %}{% continue %}{% endif %}{% if x > 6 %}{% break %}{% endif %}{{ x }}{{ loop.index }} {% endfor %}{% for x in [1] if x > 1 %}{% else %}none{% endfor %}',
      '11 53 none',
    ],
    [
      'what a loop sets is gone in its next turn, a namespace keeps it',
      '{% set n = namespace(x=0) %}{% set y = 0 %}{% for i in [1, 2] %}{{ z is defined }}{% set z = i %}{% set y = y + i %}{% set n.x = n.x + i %}{{ y }}{% endfor %}{{ y }}{{ n.x }}',
      'False1False203',
    ],
    [
      'a loop may call itself',
      '{% for x in t recursive %}{{ x.n }}{{ loop.depth }}{% if x.c %}({{ loop(x.c) }}){% endif %}{% endfor %}',
      'a1(b2c2)',
      { t: [{ n: 'a', c: [{ n: 'b' }, { n: 'c' }] }] },
    ],
    ['an if sets variables around it', '{% if true %}{% set x = 1 %}{% elif x %}{% else %}{% endif %}{{ x }}', '1'],
    [
      'macros take defaults, names and more, and see where they are defined',
      "{% set g = 'g' %}{% macro m(a, b=a ~ '!', c='c') %}{{ a }}{{ b }}{{ c }}{{ g }}{{ varargs }}{{ kwargs }}{% endmacro %}{{ m('x') }} {{ m(1, c=3) }} {{ m(1, 2, 3, 4, d=5) }}{% for g in ['h'] %}{{ m(0) }}{% endfor %}",
      "xx!cg(){} 11!3g(){} 123g(4,){'d': 5}00!cg(){}",
    ],
    [
      'a call block is the caller of a macro',
      "{% macro m(a) %}<{{ caller(a) }}>{% endmacro %}{% call(x) m('q') %}[{{ x }}]{% endcall %}",
      '<[q]>',
    ],
    [
      'set and filter take blocks',
      '{% set x %} a {{ 1 }} {% endset %}[{{ x }}]{% set y | trim | upper %} b {% endset %}[{{ y }}]{% filter upper | trim %} c {% endfilter %}{% with a = 1, b = 2 %}{{ a + b }}{% endwith %}{{ a }}',
      '[ a 1 ][B]C3',
    ],
    [
      'several names take the items of one value',
      '{% set a, b = 1, 2 %}{{ a }}{{ b }}{% for (x, y), z in [[[1, 2], 3]] %}{{ x }}{{ y }}{{ z }}{% endfor %}',
      '12123',
    ],
  ],
  'filters and tests': [
    [
      'select by tests and attributes',
      "{{ x | selectattr('r', 'equalto', 'a') | map(attribute='c.0') | join(',') }} {{ x | rejectattr('r', 'eq', 'a') | list | length }} {{ [1, 2, none] | select | list }} {{ [1, 2] | reject('odd') | list }} {{ ['a'] | map('upper') | first }} {{ x | map(attribute='q.z', default='-') | list }}{{ x | map(attribute='q') | list | length }}",
      "1 1 [1, 2] [2] A ['-', '-']2",
      {
        x: [
          { r: 'a', c: [1] },
          { r: 'b', c: [2] },
        ],
      },
    ],
    [
      'what a filter gives lazily is true even if empty, and ends',
      "{% if [] | selectattr('a') %}yes{% endif %}{% set g = [1] | map('string') %}{{ g | list }}{{ g | list }}",
      "yes['1'][]",
    ],
    [
      'of dicts',
      "{% for k, v in x | dictsort %}{{ k }}{{ v }}{% endfor %}{{ x | items | list }}{{ x | dictsort(by='value', reverse=true) }}{{ x | length }}{{ x | list }}{{ x | first }}",
      "A2b1[('b', 1), ('A', 2)][('A', 2), ('b', 1)]2['b', 'A']b",
      { x: { b: 1, A: 2 } },
    ],
    [
      'of lists',
      "{{ [3, 1] | sort(reverse=true) }}{{ [1, 1, 2] | unique | list }}{{ [1, 2.5] | sum }}{{ [1, 3] | max }}{{ [] | min }}{{ [1, 2] | reverse | list }}{{ [1, 2] | last }}{{ [] | first }}{{ [1, none] | join('-') }}{{ x | sum(attribute='k') }}{{ x | sort(attribute='k') | map(attribute='k') | list }}",
      '[3, 1][1, 2]3.53[2, 1]21-None4[1, 1, 2]',
      { x: [{ k: 1 }, { k: 2 }, { k: 1 }] },
    ],
    [
      'of texts',
      "{{ x | indent }}|{{ x | indent(2, true) }}|{{ x | indent('> ', blank=true) }}|{{ '<&>' | e }}|{{ 'aXa' | replace('a', 'b', 1) }}|{{ 5 | string }}{{ none | string }}|{{ true | lower }}|{{ 'abc' | reverse }}",
      'a\n\n    b|  a\n\n  b|a\n> \n> b|&lt;&amp;&gt;|bXa|5None|true|cba',
      { x: 'a\n\nb' },
    ],
    [
      'of numbers',
      "{{ '12' | int }}{{ ' 4.7 ' | int }}{{ 'x' | int(9) }}{{ '1.5' | float }}{{ 'x' | float }}{{ 2.5 | round }}{{ 3.5 | round }}{{ 2.345 | round(2) }}{{ 2.1 | round(method='ceil') }}{{ 7 | round }}{{ -3 | abs }}{{ true | int }}{{ '0x1f' | int(base=16) }}",
      '12491.50.02.04.02.353.073131',
    ],
    [
      'what is added to safe text is escaped',
      "{{ '<a>' | safe + x + '<b>' | safe + (x | tojson) }}{{ '<a>' | safe ~ x }}{{ x | e }}{{ x + '<' }}",
      '<a>&lt;&amp;&#34;<b>&#34;&lt;&amp;\\&#34;&#34;<a><&"&lt;&amp;&#34;<&"<',
      { x: '<&"' },
    ],
    [
      'select and map take none as empty',
      "{{ none | selectattr('a') | list }}{{ none | map('upper') | list }}{{ none | reject | list }}",
      '[][][]',
    ],
    [
      'default',
      "{{ missing | default('a') }}{{ '' | default('b') }}{{ '' | default('c', true) }}{{ none | default('d') }}{{ false | d('e', boolean=true) }}",
      'acNonee',
    ],
    [
      'tests of types',
      "{% for v in [1, 1.5, true, none, 'a', [], {}, (1,)] %}{{ v is number }}{{ v is integer }}{{ v is float }}{{ v is boolean }}{{ v is string }}{{ v is mapping }}{{ v is sequence }}{{ v is iterable }}{{ v is none }};{% endfor %}{{ missing is undefined }}{{ missing is string }}{{ missing is iterable }}",
      'TrueTrueFalseFalseFalseFalseFalseFalseFalse;TrueFalseTrueFalseFalseFalseFalseFalseFalse;TrueFalseFalseTrueFalseFalseFalseFalseFalse;FalseFalseFalseFalseFalseFalseFalseFalseTrue;FalseFalseFalseFalseTrueFalseTrueTrueFalse;FalseFalseFalseFalseFalseFalseTrueTrueFalse;FalseFalseFalseFalseFalseTrueTrueTrueFalse;FalseFalseFalseFalseFalseFalseTrueTrueFalse;TrueFalseTrue',
    ],
    [
      'tests with arguments',
      "{{ 6 is divisibleby 3 }}{{ 6 is divisibleby(4) }}{{ 'a' is in ['a'] }}{{ 1 is eq 1 }}{{ 2 is gt 1 }}{{ none is sameas none }}{{ 1 is not eq(2) and true }}{{ 'a' is lower }}{{ 'trim' is filter }}{{ 3 is odd }}",
      'TrueFalseTrueTrueTrueTrueTrueTrueTrueTrue',
    ],
    [
      'a word after a test belongs to the sentence',
      "{{ 'a' if x is defined else 'b' }}{{ x is not none and x is string or false }}",
      'aTrue',
      { x: 'x' },
    ],
    [
      'arguments may be unpacked',
      "{{ '{}{}{x}'.format(*[1, 2], **{'x': 3}) }}{{ dict(a=1, **{'b': 2}) }}{{ range(5, 0, -2) | list }}{{ dict([('a', 1)]) }}",
      "123{'a': 1, 'b': 2}[5, 3, 1]{'a': 1}",
    ],
  ],
};

for (const [subject, table] of Object.entries(rows)) {
  describe(subject, () => {
    test.each(table)('%s', (_, source, expected, variables) => {
      expect(render(source, variables)).toBe(expected);
    });
  });
}

test.each([
  ['a\n{% if %}', 2, /expected an expression/],
  ['{{ x', 1, /ends within a tag/],
  ['{% for x in y %}', 1, /ends before \{% endfor %\} or \{% else %\}/],
  ['\n\n{% endif %}', 3, /unknown tag 'endif'/],
  ['{{ (1] }}', 1, /unexpected '\]', expected '\)'/],
  ['{# x', 1, /comment has no end/],
  ['{% include "x" %}', 1, /unknown tag 'include'/],
])('a malformed template is an error with its line: %j', (source, line, words) => {
  expect(() => new JinjaTemplate(source)).toThrow(expect.objectContaining({ line, message: expect.stringMatching(words) }));
});

test.each([
  ['a\n{{ x.y.z }}', 2, /'dict object' has no attribute 'y'/],
  ['{{ missing.x }}', 1, /'missing' is undefined/],
  ["{% if true %}\n\n{{ 'a' + 1 }}{% endif %}", 3, /'\+' does not take 'str' and 'int'/],
  ['{{ x.append(1) }}', 1, /has no attribute 'append'/],
  ['{{ 1 | nothing }}', 1, /No filter named 'nothing'/],
  ['{{ 1 is nothing }}', 1, /No test named 'nothing'/],
  ['{{ range(1000000) }}', 1, /at most 100000/],
  ['{% macro m() %}\n{{ m() }}{% endmacro %}{{ m() }}', 2, /call stack/],
  ['{{ missing | tojson }}', 1, /not JSON serializable/],
  ['{{ 1 / 0 }}', 1, /division by zero/],
  ["{{ 'a'.strip(1, 2) }}", 1, /at most 1 argument/],
])('a template that fails is an error with its line: %j', (source, line, words) => {
  expect(() => render(source, { x: {} })).toThrow(expect.objectContaining({ line, message: expect.stringMatching(words) }));
});

test.each([
  ['nested loops', '{% for a in range(100000) %}{% for b in range(100000) if b > a %}{% endfor %}{% endfor %}'],
  ['a macro that calls itself twice', '{% macro m(n) %}{% if n %}{{ m(n - 1) }}{{ m(n - 1) }}{% endif %}{% endmacro %}{{ m(60) }}'],
  ['a long text by *', "{{ 'a' * 10 ** 12 }}"],
  ['a long list by *', '{{ [0] * 10 ** 9 }}'],
  ['a text that doubles', "{% set n = namespace(x='ab') %}{% for i in range(100) %}{% set n.x = n.x ~ n.x %}{% endfor %}"],
  [
    'a list that holds itself twice',
    '{% set n = namespace(x=[1]) %}{% for i in range(100) %}{% set n.x = [n.x, n.x] %}{% endfor %}{{ n.x | tojson }}',
  ],
  ['a long replacement', "{{ ('a' * 1000000) | replace('a', 'b' * 1000000) }}"],
  ['a wide field', "{{ '%900000000d' % 1 }}"],
  ['a search that is slow', "{{ ('b' + 'a' * 500000) in 'a' * 1000000 }}"],
  ['a text printed again and again', "{% set a = 'a' * 1000000 %}{% for i in range(100000) %}{{ a }}{% endfor %}"],
])('a template stops after too many steps: %s', (_, source) => {
  expect(() => render(source)).toThrow(expect.objectContaining({ line: 1, message: expect.stringMatching(/too many steps/) }));
});

test('a list of nothing is empty however often it is taken', () => {
  expect(render('{{ [] * 10 ** 15 }}')).toBe('[]');
});

test.each(['(', '[', 'not ', '- '])('an expression that nests too deeply is an error: %j', (open) => {
  expect(() => new JinjaTemplate(`{{ ${open.repeat(200_000)}1`)).toThrow();
});

test('a long run of blanks before a tag is read in one pass', () => {
  const blanks = ' '.repeat(300_000);
  expect(render(`${blanks}x{%- if true %}${blanks}{%- endif %}`)).toBe(`${blanks}x`);
});

test("names of JavaScript's own properties are names like others", () => {
  expect(render('{% macro m(constructor, __proto__) %}{{ constructor }}{{ __proto__ }}{% endmacro %}[{{ m() }}]')).toBe('[]');
  expect(render("{{ x.constructor }}{{ x['__proto__'] }}{{ ''.constructor }}{{ toString }}", { x: {} })).toBe('');
  expect(render('{{ dict(__proto__=1, constructor=2) }}')).toBe("{'__proto__': 1, 'constructor': 2}");
  expect(() => render("{{ '{constructor}'.format() }}")).toThrow(/no value/);
});

test('an error message stays short', () => {
  expect(() => render("{{ ('a' * 100000) | sum }}")).toThrow(expect.objectContaining({ message: expect.stringMatching(/^.{1,510}$/) }));
});

test('thousands separators stand before the point alone', () => {
  expect(render("{{ '{:,}'.format(1234567.12345) }} {{ '{:,}'.format(-1234) }}")).toBe('1,234,567.12345 -1,234');
});

test('a long chat fits a template that reads all messages for each', () => {
  const messages = Array.from({ length: 1000 }, () => ({ role: 'user', content: 'some words' }));
  const source = '{% for m in messages %}{% for n in messages %}{% if n.role != m.role %}!{% endif %}{% endfor %}{% endfor %}done';
  expect(render(source, { messages })).toBe('done');
});
