import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { chats, ggufTokenizerKeys } from '../../../../tests/fixtures/smollm2/load.ts';
import { ChatTemplate, chatTemplateFromGguf, readChatTemplate } from './chat-template.ts';

const template = (source: string) =>
  new ChatTemplate({ source, specialTokens: { bos_token: '<s>', eos_token: '</s>' }, where: 'test template' });
const user = (content: string) => [{ role: 'user', content }];

describe("SmolLM2's template", () => {
  const smollm2 = chatTemplateFromGguf(new Map(Object.entries(ggufTokenizerKeys)))!;

  test.each(chats)('gives the published prompt for $user', ({ user: content, prompt }) => {
    expect(smollm2.render(user(content))).toBe(prompt);
    expect(smollm2.render(smollm2.adapt([{ role: 'user', content: [{ type: 'text', text: content }] }]))).toBe(prompt);
  });

  test('keeps a given system message, and omits the generation prompt on request', () => {
    const messages = [{ role: 'system', content: 'Be brief.' }, ...user('Hi'), { role: 'assistant', content: 'Hello.' }];
    expect(smollm2.render(messages, { addGenerationPrompt: false })).toBe(
      '<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHello.<|im_end|>\n',
    );
  });

  test('takes no images', () => {
    const messages = [...user('a'), { role: 'user', content: [{ type: 'image_url', image_url: { url: 'x' } }] }];
    expect(() => smollm2.adapt(messages)).toThrow(
      expect.objectContaining({
        code: 'GRAFT_CHAT_CONTENT_UNSUPPORTED',
        where: 'messages[1].content',
        what: expect.stringContaining('image_url'),
      }),
    );
  });
});

test('the template sees the special tokens, the tools and the time', () => {
  const source =
    "{{ bos_token }}{% for tool in tools or [] %}{{ tool.name }};{% endfor %}{{ strftime_now('%d %b %Y, %A %H:%M %Q %-d') }}{{ eos_token }}";
  const now = new Date(2026, 10, 4, 9, 5);
  expect(template(source).render([], { tools: [{ name: 'clock' }], now })).toBe('<s>clock;04 Nov 2026, Wednesday 09:05 %Q 4</s>');
  expect(template("{{ 'no tools' if tools is none }}").render([], { tools: [] })).toBe('no tools');
});

test('further variables and keys of a message reach the template', () => {
  const source =
    "{% for m in messages %}{{ m['name'] }}{% endfor %}{{ ' thinks' if enable_thinking }}{% for i in range(1, 4) %}{{ i }}{% endfor %}";
  const messages = [{ role: 'user', content: null, name: 'Ada' }];
  expect(template(source).render(messages, { variables: { enable_thinking: true, messages: 'not this' } })).toBe('Ada thinks123');
});

test('adapted parts of text become one string, unless the template walks over parts', () => {
  const parts = [
    { type: 'text', text: 'a' },
    { type: 'text', text: 'b' },
  ];
  const strings = "{% for message in messages %}[{{ message['content'] }}]{% endfor %}";
  const walking = "{% for message in messages %}{% for part in message['content'] %}[{{ part.text }}]{% endfor %}{% endfor %}";
  const both = `{% for message in messages %}{% if message.content is string %}({{ message.content }}){% else %}{% for part in message.content %}[{{ part['text'] }}]{% endfor %}{% endif %}{% endfor %}`;
  const messages = [{ role: 'user', content: parts }, ...user('c')];
  const inMacro = `{% macro show(content) %}{% if content is string %}({{ content }}){% else %}{% for part in content %}[{{ part.text }}]{% endfor %}{% endif %}{% endmacro %}{% for m in messages %}{{ bos_token + show(m.content) }}{% endfor %}`;
  const adapted = (source: string) => template(source).render(template(source).adapt(messages));
  expect(adapted(strings)).toBe('[a\nb][c]');
  expect(adapted(walking)).toBe('[a][b][c]');
  expect(adapted(both)).toBe('[a][b](c)');
  expect(adapted(inMacro)).toBe('<s>[a][b]<s>(c)');
  expect(adapted('{% for m in messages %}{{ m.content | tojson }}{% endfor %}')).toBe('"a\\nb""c"');
});

test('what is not adapted reaches the template as in transformers', () => {
  const parts = [{ type: 'text', text: 'a' }];
  const source = '{% for m in messages %}{{ m.content }}|{{ m.content is defined }}|{{ m.reasoning_content }}{{ m.thinking }}{% endfor %}';
  const messages = [
    { role: 'user', content: parts },
    { role: 'assistant', content: null, tool_calls: null, reasoning: 'r' },
  ];
  expect(template(source).render(messages)).toBe("[{'type': 'text', 'text': 'a'}]|True||False|rr");
});

test("a template with Windows' line breaks writes none of them", () => {
  const source =
    '{%- for m in messages -%}\r\n{{- "<|im_start|>" + m.role + "\r\n" -}}\r\n{{- m.content + "<|im_end|>\r\n" -}}\r\n{%- endfor -%}\r\n' +
    '{%- if add_generation_prompt -%}<|im_start|>assistant\r\n{% endif -%}';
  expect(template(source).render(user('hi'))).toBe('<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n');
});

test('an answer that is stripped of line breaks keeps its indentation', () => {
  const source =
    "{%- for m in messages -%}<|im_start|>{{ m.role }}\n{{ m.content.split('</think>')[-1].lstrip('\\n') }}<|im_end|>\n{% endfor -%}";
  expect(template(source).render(user('</think>\n\n    return x'))).toBe('<|im_start|>user\n    return x<|im_end|>\n');
  expect(template("{{ 'xax'.strip('x') }} {{ 'xax'.rstrip('x') }} {{ '' == false }}").render([])).toBe('a xa False');
});

test('a call and its result reach the template with the documents', () => {
  const source =
    '{% for m in messages %}{% for c in m.tool_calls %}{{ c.function | tojson }}{% endfor %}{{ m.tool_call_id }}{% endfor %}{{ documents[0].title }}';
  const call = { id: '1', type: 'function', function: { name: 'f', arguments: { city: 'Zürich' } } };
  const messages = [
    { role: 'assistant', content: '', tool_calls: [call] },
    { role: 'tool', tool_call_id: '1', content: '12' },
  ];
  expect(template(source).render(messages, { documents: [{ title: 'T' }] })).toBe('{"name": "f", "arguments": {"city": "Zürich"}}1T');
});

test('with tools the template tool_use renders, and any template by its name', () => {
  const named = new ChatTemplate({ source: 'plain', named: { tool_use: 'tools', rag: 'documents' }, where: 'test template' });
  expect(named.render([])).toBe('plain');
  expect(named.render([], { tools: [{}] })).toBe('tools');
  expect(named.render([], { tools: [{}], template: 'rag' })).toBe('documents');
  expect(() => named.render([], { template: 'rga' })).toThrow(
    expect.objectContaining({ code: 'GRAFT_CHAT_TEMPLATE_UNKNOWN', fix: expect.stringContaining('"rag"') }),
  );
});

test('raise_exception is an error with the template’s words', () => {
  const strict = template("{% if messages[0].role != 'user' %}{{ raise_exception('A chat begins with the user!') }}{% endif %}ok");
  expect(strict.render(user('hi'))).toBe('ok');
  expect(() => strict.render([{ role: 'tool', content: '' }])).toThrow(
    expect.objectContaining({
      code: 'GRAFT_CHAT_TEMPLATE_REFUSED',
      what: 'The chat template refuses these messages: A chat begins with the user!',
      where: 'test template',
    }),
  );
});

test('a template that fails or cannot be read is an error that quotes its line', () => {
  expect(() => template('a\n  {{ messages[0].content.no_such_method() }}').render(user('a'))).toThrow(
    expect.objectContaining({
      code: 'GRAFT_CHAT_TEMPLATE_FAILED',
      what: "The chat template failed on these messages: 'str object' has no attribute 'no_such_method', in line 2: {{ messages[0].content.no_such_method() }}.",
    }),
  );
  expect(() => template('a\r\n{% for %}').render([])).toThrow(
    expect.objectContaining({ code: 'GRAFT_CHAT_TEMPLATE_INVALID', what: expect.stringContaining(', in line 2: {% for %}.') }),
  );
});

test('a part of text without text is refused', () => {
  expect(() => template('{{ messages[0].content }}').adapt([{ role: 'user', content: [{ type: 'text' }] }])).toThrow(
    expect.objectContaining({ code: 'GRAFT_CHAT_CONTENT_UNSUPPORTED' }),
  );
});

test('a GGUF without a template has none', () => {
  expect(chatTemplateFromGguf(new Map(), 'model.gguf')).toBeNull();
});

test('a GGUF holds further templates by name', () => {
  const metadata = new Map<string, unknown>([
    ['tokenizer.chat_template', 'plain'],
    ['tokenizer.chat_template.tool_use', 'tools'],
    ['tokenizer.chat_templates', ['tool_use']],
  ]);
  expect(chatTemplateFromGguf(metadata)!.render([], { tools: [{}] })).toBe('tools');
  expect(chatTemplateFromGguf(metadata)!.render([])).toBe('plain');
});

test("a GGUF's special tokens are written by name", () => {
  const metadata = new Map<string, unknown>([
    ['tokenizer.chat_template', '{{ bos_token }}-{{ eos_token }}{{ pad_token }}{{ unk_token is defined }}'],
    ['tokenizer.ggml.tokens', ['<s>', '</s>']],
    ['tokenizer.ggml.padding_token_id', 0],
    ['tokenizer.ggml.bos_token_id', 0n],
    ['tokenizer.ggml.eos_token_id', 1],
  ]);
  expect(chatTemplateFromGguf(metadata)!.render([])).toBe('<s>-</s><s>False');
});

describe('a folder', () => {
  let folder: string;
  const config = (value: unknown) => writeFile(join(folder, 'tokenizer_config.json'), JSON.stringify(value));
  beforeAll(async () => {
    folder = await mkdtemp(join(tmpdir(), 'graft-chat-template-'));
  });
  afterAll(() => rm(folder, { recursive: true }));

  test('without a template has none', async () => {
    expect(await readChatTemplate(folder)).toBeNull();
  });

  test('holds it in tokenizer_config.json, alone or by name', async () => {
    await config({ chat_template: '{{ bos_token }}one', bos_token: { content: '<b>' } });
    expect((await readChatTemplate(folder))!.render([])).toBe('<b>one');
    await config({
      chat_template: [
        { name: 'tool_use', template: 'tools' },
        { name: 'default', template: 'plain' },
      ],
    });
    const several = (await readChatTemplate(folder))!;
    expect([several.render([]), several.render([], { tools: [{}] })]).toEqual(['plain', 'tools']);
  });

  test('holds it in chat_template.json, with its special tokens in special_tokens_map.json', async () => {
    await config({ chat_template: 'old', bos_token: '<b>' });
    await writeFile(join(folder, 'chat_template.json'), JSON.stringify({ chat_template: '{{ bos_token }}{{ eos_token }}' }));
    await writeFile(join(folder, 'special_tokens_map.json'), JSON.stringify({ eos_token: { content: '</e>' } }));
    expect((await readChatTemplate(folder))!.render([])).toBe('<b></e>');
  });

  test('prefers chat_template.jinja', async () => {
    await config({ chat_template: 'old', eos_token: '</b>' });
    await writeFile(join(folder, 'chat_template.jinja'), 'new{{ eos_token }}');
    expect((await readChatTemplate(folder))!.render([])).toBe('new</b>');
  });

  test('has others in additional_chat_templates', async () => {
    await mkdir(join(folder, 'additional_chat_templates'));
    await writeFile(join(folder, 'additional_chat_templates', 'tool_use.jinja'), 'tools');
    const several = (await readChatTemplate(folder))!;
    expect([several.render([]), several.render([], { tools: [{}] })]).toEqual(['new</b>', 'tools']);
  });
});
