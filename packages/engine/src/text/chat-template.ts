import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { GraftError, graftError, messageOf } from '@graft/common';
import { quotedList } from '@graft/registry';
import { z } from 'zod';
import { readIfThere, readJsonFile } from '../json-file.ts';
import type { GgufMetadata } from './gguf-tokenizer.ts';
import { JinjaTemplate } from './jinja/template.ts';
import { JinjaError } from './jinja/values.ts';

/** One part of a message's content. Parts other than text reach only templates that loop over parts. */
export interface ContentPart {
  type: string;
  text?: string;
  [key: string]: unknown;
}

/** One message of a chat, in OpenAI's form. Other keys (`tool_calls`, `name`) reach the template unchanged. */
export interface ChatMessage {
  role: string;
  content?: string | readonly ContentPart[] | null | undefined;
  [key: string]: unknown;
}

export interface RenderOptions {
  /** Whether to end with the start of the assistant's answer. Default: true. */
  addGenerationPrompt?: boolean;
  /** Tools in OpenAI's form, for templates that support them. */
  tools?: readonly unknown[] | undefined;
  /** Sources for the answer, as objects with `title` and `text`. */
  documents?: readonly unknown[] | undefined;
  /** The time for `strftime_now`. Default: the time of the call. */
  now?: Date;
  /** More variables of the template, such as `enable_thinking`. */
  variables?: Readonly<Record<string, unknown>> | undefined;
  /** One of the model's templates. Default: `tool_use` where tools are given and the model has it, else `default`. */
  template?: string | undefined;
}

export interface ChatTemplateFacts {
  source: string;
  /** The model's other templates, such as `tool_use` and `rag`. */
  named?: Readonly<Record<string, string>>;
  /** `bos_token`, `eos_token` and others, for templates that write them. A missing one is undefined there. */
  specialTokens?: Readonly<Record<string, string>>;
  /** The file or key it comes from, for errors. */
  where: string;
}

/** The template is not valid Jinja. */
export class ChatTemplateInvalidError extends graftError('GRAFT_CHAT_TEMPLATE_INVALID', (where: string, cause: unknown, quote = '') => ({
  what: `The chat template cannot be read: ${messageOf(cause)}${quote}.`,
  where,
  fix: 'correct the template, or pass another.',
  cause,
})) {}

/** The template refused the messages by `raise_exception`; the request is at fault. */
export class ChatTemplateRefusedError extends graftError('GRAFT_CHAT_TEMPLATE_REFUSED', (said: string, where: string) => ({
  what: `The chat template refuses these messages: ${said}`,
  where,
  fix: 'send the messages in the order and with the roles that the model was trained on.',
})) {}

/** The template failed on the messages. */
export class ChatTemplateFailedError extends graftError('GRAFT_CHAT_TEMPLATE_FAILED', (where: string, cause: unknown, quote: string) => ({
  what: `The chat template failed on these messages: ${messageOf(cause)}${quote}.`,
  where,
  fix: 'send messages of role system, user and assistant with text, or pass a template that fits the model.',
  cause,
})) {}

/** The model has no template of this name. */
export class ChatTemplateUnknownError extends graftError(
  'GRAFT_CHAT_TEMPLATE_UNKNOWN',
  (name: string, known: readonly string[], where: string) => ({
    what: `The model has no chat template "${name}".`,
    where,
    fix: `use ${quotedList(known)}, or leave the name out.`,
  }),
) {}

/** A message holds content that the template cannot take. */
export class ChatContentError extends graftError('GRAFT_CHAT_CONTENT_UNSUPPORTED', (what: string, position: number) => ({
  what,
  where: `messages[${position}].content`,
  fix: 'send a string, or parts of the form {"type": "text", "text": "..."}.',
})) {}

/** Turns the messages of a chat into the text that the model was trained on. */
export class ChatTemplate {
  readonly where: string;
  private readonly specialTokens: Readonly<Record<string, string>>;
  private readonly templates: ReadonlyMap<string, OneTemplate>;
  private readonly forms = new Map<OneTemplate, ContentForm>();

  constructor({ source, named = {}, specialTokens = {}, where }: ChatTemplateFacts) {
    this.where = where;
    this.specialTokens = specialTokens;
    this.templates = new Map(
      Object.entries({ default: source, ...named }).map(([name, text]) => [
        name,
        new OneTemplate(text, name === 'default' ? where : `${where} (${name})`),
      ]),
    );
  }

  /**
   * The prompt for these messages, as transformers' `apply_chat_template` renders it. It holds the beginning token where the template writes one, so encode
   * it with `addSpecialTokens: false`.
   * @throws ChatTemplateInvalidError, ChatTemplateRefusedError, ChatTemplateFailedError, ChatTemplateUnknownError
   */
  render(messages: readonly ChatMessage[], options: RenderOptions = {}): string {
    const { addGenerationPrompt = true, tools = [], documents = null, now = new Date(), variables } = options;
    return this.choose(options).render(
      messages,
      {
        ...this.specialTokens,
        ...variables,
        add_generation_prompt: addGenerationPrompt,
        tools: tools.length === 0 ? null : tools,
        documents,
      },
      now,
    );
  }

  /**
   * The messages with their content in the form that the template reads: a string becomes a part where it only walks over parts, and parts of text become a
   * string where it takes strings. transformers gives the template what the caller sent, and such a template then drops the text or prints Python's lists.
   * @throws ChatContentError, ChatTemplateInvalidError, ChatTemplateUnknownError
   */
  adapt(messages: readonly ChatMessage[], options: Pick<RenderOptions, 'tools' | 'template'> = {}): ChatMessage[] {
    const template = this.choose(options);
    const form = this.forms.get(template) ?? this.contentForm(options);
    this.forms.set(template, form);
    return messages.map((message, position) => withContent(message, form, position));
  }

  /** Found by trial: a template reads the content that it prints, unless it prints a list as such. */
  private contentForm(options: Pick<RenderOptions, 'tools' | 'template'>): ContentForm {
    const text = 'trial of content';
    const prints = (content: ChatMessage['content']): boolean => {
      try {
        const printed = this.render([{ role: 'user', content }], options);
        return printed.includes(text) && !/text['"]: ?['"]trial/.test(printed);
      } catch (error) {
        if (error instanceof ChatTemplateInvalidError) throw error;
        return false;
      }
    };
    if (!prints([{ type: 'text', text }])) return 'string';
    return prints(text) ? 'either' : 'parts';
  }

  private choose({ tools = [], template }: Pick<RenderOptions, 'tools' | 'template'>): OneTemplate {
    const name = template ?? (tools.length > 0 && this.templates.has('tool_use') ? 'tool_use' : 'default');
    const found = this.templates.get(name);
    if (found === undefined) throw new ChatTemplateUnknownError(name, [...this.templates.keys()], this.where);
    return found;
  }
}

/** The content that a template reads: strings, lists of parts, or either. */
type ContentForm = 'string' | 'parts' | 'either';

/** Parsed when it is first used, so that a model serves although a template of it is malformed. */
class OneTemplate {
  private readonly source: string;
  private readonly where: string;
  private parsed: JinjaTemplate | null = null;

  constructor(source: string, where: string) {
    this.where = where;
    this.source = source;
  }

  render(messages: readonly ChatMessage[], variables: Readonly<Record<string, unknown>>, now: Date): string {
    const template = (this.parsed ??= this.parse());
    try {
      return template.render(
        { ...variables, messages: messages.map(withReasoning) },
        {
          raise_exception: ([said]) => {
            throw new ChatTemplateRefusedError(String(said), this.where);
          },
          strftime_now: ([format]) => strftime(now, String(format)),
        },
      );
    } catch (error) {
      throw GraftError.is(error) ? error : new ChatTemplateFailedError(this.where, error, this.quote(error));
    }
  }

  private parse(): JinjaTemplate {
    try {
      return new JinjaTemplate(this.source);
    } catch (error) {
      throw new ChatTemplateInvalidError(this.where, error, this.quote(error));
    }
  }

  /** The line of the template at fault. */
  private quote(error: unknown): string {
    const line = error instanceof JinjaError ? error.line : null;
    const text = line === null ? undefined : this.source.split(/\r\n?|\n/)[line - 1]?.trim();
    return text === undefined ? '' : `, in line ${line}: ${text.length > 200 ? `${text.slice(0, 200)}…` : text}`;
  }
}

/** As transformers does: a key that is null is left out, and the reasoning is given under the names that templates read. */
function withReasoning(message: ChatMessage): Record<string, unknown> {
  const given = Object.fromEntries(Object.entries(message).filter(([, value]) => value !== null));
  const reasoning = given['reasoning_content'] ?? given['thinking'] ?? given['reasoning'];
  return reasoning === undefined ? given : { thinking: reasoning, ...given, reasoning_content: reasoning };
}

function withContent(message: ChatMessage, form: ContentForm, position: number): ChatMessage {
  const { content } = message;
  if (typeof content === 'string') return form === 'parts' ? { ...message, content: [{ type: 'text', text: content }] } : message;
  if (!Array.isArray(content)) return message;
  for (const part of content) {
    if (part.type === 'text' && typeof part.text !== 'string') throw new ChatContentError('A part of type "text" has no text.', position);
  }
  return form === 'string' ? { ...message, content: joinText(content, position) } : message;
}

function joinText(parts: readonly ContentPart[], position: number): string {
  const texts = parts.map((part) => {
    if (part.type !== 'text')
      throw new ChatContentError(`The model's chat template takes text only, not a part of type "${part.type}".`, position);
    return part.text ?? '';
  });
  return texts.join('\n');
}

const ggufKey = 'tokenizer.chat_template';

/** `tokenizer.chat_template` of a GGUF and the named ones, such as `tokenizer.chat_template.tool_use`; null without any. */
export function chatTemplateFromGguf(metadata: GgufMetadata, where = 'GGUF metadata'): ChatTemplate | null {
  const templates: Record<string, unknown> = { default: metadata.get(ggufKey) };
  for (const [key, value] of metadata) if (key.startsWith(`${ggufKey}.`)) templates[key.slice(ggufKey.length + 1)] = value;
  return templateOf(templates, ggufSpecialTokens(metadata), `${where}, key ${ggufKey}`);
}

/** Of several templates without a default, the first is it. */
function templateOf(
  templates: Readonly<Record<string, unknown>>,
  specialTokens: Record<string, string>,
  where: string,
): ChatTemplate | null {
  const strings = Object.entries(templates).filter((entry): entry is [string, string] => typeof entry[1] === 'string');
  const { default: source = strings[0]?.[1], ...named } = Object.fromEntries(strings);
  return source === undefined ? null : new ChatTemplate({ source, named, specialTokens, where });
}

/** The names that templates use, by GGUF key. */
const ggufTokens = {
  bos_token: 'bos',
  eos_token: 'eos',
  unk_token: 'unknown',
  pad_token: 'padding',
  sep_token: 'seperator',
  cls_token: 'cls',
  mask_token: 'mask',
};

function ggufSpecialTokens(metadata: GgufMetadata): Record<string, string> {
  const tokens = metadata.get('tokenizer.ggml.tokens');
  const named = Object.entries(ggufTokens).map(([name, key]) => {
    const id = metadata.get(`tokenizer.ggml.${key}_token_id`);
    return [name, Array.isArray(tokens) && id !== undefined ? tokens[Number(id)] : undefined] as const;
  });
  return Object.fromEntries(named.filter((entry): entry is [keyof typeof ggufTokens, string] => typeof entry[1] === 'string'));
}

/**
 * The chat templates of a checkpoint's folder, as transformers finds them: `chat_template.jinja` with `additional_chat_templates/NAME.jinja`, else
 * `chat_template.json`, else `chat_template` in tokenizer_config.json, which is one template or a list of named ones. Null if the folder has none.
 * @throws ChatTemplateInvalidError
 */
export async function readChatTemplate(folder: string): Promise<ChatTemplate | null> {
  const refuse = (what: string, where: string) => new ChatTemplateInvalidError(where, what);
  const readJson = async (name: string) => (await readJsonFile(join(folder, name), JsonObject, refuse)) ?? {};
  const readText = (name: string) => readIfThere(join(folder, name), (what) => refuse(what, join(folder, name)));
  const config = await readJson('tokenizer_config.json');
  const tokens = specialTokensOf({ ...(await readJson('special_tokens_map.json')), ...config });
  const files: Record<string, unknown> = { default: (await readText('chat_template.jinja')) ?? undefined };
  const names = await readdir(join(folder, additionalTemplates)).catch(() => []);
  for (const file of names.filter((name) => name.endsWith('.jinja')).sort()) {
    files[file.slice(0, -'.jinja'.length)] = await readText(join(additionalTemplates, file));
  }
  return (
    templateOf(files, tokens, join(folder, 'chat_template.jinja')) ??
    templateOf(byName((await readJson('chat_template.json'))['chat_template']), tokens, join(folder, 'chat_template.json')) ??
    templateOf(byName(config['chat_template']), tokens, join(folder, 'tokenizer_config.json'))
  );
}

const JsonObject = z.record(z.string(), z.unknown());
const additionalTemplates = 'additional_chat_templates';

/** One template, or a list of `{ name, template }`. */
function byName(value: unknown): Record<string, unknown> {
  if (!Array.isArray(value)) return { default: value };
  return Object.fromEntries(value.filter(isRecord).map(({ name, template }) => [String(name), template]));
}

/** `bos_token` and the like, each a string or `{ content }`. */
function specialTokensOf(config: Readonly<Record<string, unknown>>): Record<string, string> {
  const named = Object.entries(config).filter(([key]) => key.endsWith('_token'));
  const tokens = named.map(([key, value]) => [key, isRecord(value) ? value['content'] : value] as const);
  return Object.fromEntries(tokens.filter((entry): entry is [string, string] => typeof entry[1] === 'string'));
}

const isRecord = (value: unknown): value is Record<string, unknown> => typeof value === 'object' && value !== null && !Array.isArray(value);

/** Python's `strftime` in the C locale, for the directives that chat templates use; local time. An unknown directive stays as it is. */
function strftime(time: Date, format: string): string {
  const two = (value: number): string => String(value).padStart(2, '0');
  const month = time.toLocaleDateString('en-US', { month: 'long' });
  const weekday = time.toLocaleDateString('en-US', { weekday: 'long' });
  const written: Record<string, string> = {
    Y: String(time.getFullYear()),
    y: two(time.getFullYear() % 100),
    m: two(time.getMonth() + 1),
    d: two(time.getDate()),
    B: month,
    b: month.slice(0, 3),
    A: weekday,
    a: weekday.slice(0, 3),
    H: two(time.getHours()),
    I: two(time.getHours() % 12 || 12),
    M: two(time.getMinutes()),
    S: two(time.getSeconds()),
    p: time.getHours() < 12 ? 'AM' : 'PM',
    '%': '%',
  };
  return format.replace(/%(-?)([A-Za-z%])/g, (directive, bare: string, letter: string) => {
    const text = written[letter] ?? directive;
    return bare === '' ? text : text.replace(/^0(?=\d)/, '');
  });
}
