import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { chats, ggufTokenizerKeys } from '../../../../tests/fixtures/smollm2/load.ts';
import { ChatTemplate, chatTemplateFromGguf, readChatTemplate } from './chat-template.ts';

const template = (source: string) => new ChatTemplate({ source, bosToken: '<s>', eosToken: '</s>', where: 'test template' });
const user = (content: string) => [{ role: 'user', content }];

describe("SmolLM2's template", () => {
  const smollm2 = chatTemplateFromGguf(new Map(Object.entries(ggufTokenizerKeys)))!;

  test.each(chats)('gives the published prompt for $user', ({ user: content, prompt }) => {
    expect(smollm2.render(user(content))).toBe(prompt);
    expect(smollm2.render([{ role: 'user', content: [{ type: 'text', text: content }] }])).toBe(prompt);
  });

  test('keeps a given system message, and omits the generation prompt on request', () => {
    const messages = [{ role: 'system', content: 'Be brief.' }, ...user('Hi'), { role: 'assistant', content: 'Hello.' }];
    expect(smollm2.render(messages, { addGenerationPrompt: false })).toBe(
      '<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nHello.<|im_end|>\n',
    );
  });

  test('takes no images', () => {
    const messages = [...user('a'), { role: 'user', content: [{ type: 'image_url', image_url: { url: 'x' } }] }];
    expect(() => smollm2.render(messages)).toThrow(
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
    "{{ bos_token }}{% for tool in tools or [] %}{{ tool.name }};{% endfor %}{{ strftime_now('%d %b %Y, %A %H:%M %Q') }}{{ eos_token }}";
  const now = new Date(2026, 10, 4, 9, 5);
  expect(template(source).render([], { tools: [{ name: 'clock' }], now })).toBe('<s>clock;04 Nov 2026, Wednesday 09:05 %Q</s>');
  expect(template("{{ 'no tools' if tools is none }}").render([], { tools: [] })).toBe('no tools');
});

test('further variables and keys of a message reach the template', () => {
  const source =
    "{% for m in messages %}{{ m['name'] }}{% endfor %}{{ ' thinks' if enable_thinking }}{% for i in range(1, 4) %}{{ i }}{% endfor %}";
  const messages = [{ role: 'user', content: null, name: 'Ada' }];
  expect(template(source).render(messages, { variables: { enable_thinking: true, messages: 'not this' } })).toBe('Ada thinks123');
});

test('parts of text become one string, unless the template walks over parts', () => {
  const parts = [
    { type: 'text', text: 'a' },
    { type: 'text', text: 'b' },
  ];
  const strings = "{% for message in messages %}[{{ message['content'] }}]{% endfor %}";
  const walking = "{% for message in messages %}{% for part in message['content'] %}[{{ part.text }}]{% endfor %}{% endfor %}";
  const both = `{% for message in messages %}{% if message.content is string %}({{ message.content }}){% else %}{% for part in message.content %}[{{ part['text'] }}]{% endfor %}{% endif %}{% endfor %}`;
  const messages = [{ role: 'user', content: parts }, ...user('c')];
  expect(template(strings).render(messages)).toBe('[a\nb][c]');
  expect(template(walking).render(messages)).toBe('[a][b][c]');
  expect(template(both).render(messages)).toBe('[a][b](c)');
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

test('a template that fails and one that cannot be read have different errors', () => {
  expect(() => template('{{ messages[0].content.no_such_method() }}').render(user('a'))).toThrow(
    expect.objectContaining({ code: 'GRAFT_CHAT_TEMPLATE_FAILED' }),
  );
  expect(() => template('{% for %}')).toThrow(expect.objectContaining({ code: 'GRAFT_CHAT_TEMPLATE_INVALID' }));
});

test('a part of text without text is refused', () => {
  expect(() => template('{{ messages[0].content }}').render([{ role: 'user', content: [{ type: 'text' }] }])).toThrow(
    expect.objectContaining({ code: 'GRAFT_CHAT_CONTENT_UNSUPPORTED' }),
  );
});

test('a GGUF without a template has none', () => {
  expect(chatTemplateFromGguf(new Map(), 'model.gguf')).toBeNull();
});

test("a GGUF's special tokens are written by name", () => {
  const metadata = new Map<string, unknown>([
    ['tokenizer.chat_template', '{{ bos_token }}-{{ eos_token }}'],
    ['tokenizer.ggml.tokens', ['<s>', '</s>']],
    ['tokenizer.ggml.bos_token_id', 0n],
    ['tokenizer.ggml.eos_token_id', 1],
  ]);
  expect(chatTemplateFromGguf(metadata)!.render([])).toBe('<s>-</s>');
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
    expect((await readChatTemplate(folder))!.render([])).toBe('plain');
  });

  test('prefers chat_template.jinja', async () => {
    await config({ chat_template: 'old', eos_token: '</b>' });
    await writeFile(join(folder, 'chat_template.jinja'), 'new{{ eos_token }}');
    expect((await readChatTemplate(folder))!.render([])).toBe('new</b>');
  });
});
