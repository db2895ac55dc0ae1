import { join } from 'node:path';
import { GraftError, graftError, messageOf } from '@graft/common';
import { Environment, Interpreter, Template } from '@huggingface/jinja';
import { z } from 'zod';
import { readIfThere, readJsonFile } from '../json-file.ts';
import type { GgufMetadata } from './gguf-tokenizer.ts';

/** One part of a message's content. Parts other than text reach only templates that loop over parts. */
export interface ContentPart {
  type: string;
  text?: string;
  [key: string]: unknown;
}

/** One message of a chat, in OpenAI's form. Other keys (`tool_calls`, `name`) reach the template unchanged. */
export interface ChatMessage {
  role: string;
  content?: string | readonly ContentPart[] | null;
  [key: string]: unknown;
}

export interface RenderOptions {
  /** Whether to end with the start of the assistant's answer. Default: true. */
  addGenerationPrompt?: boolean;
  /** Tools in OpenAI's form, for templates that support them. */
  tools?: readonly unknown[];
  /** The time for `strftime_now`. Default: the time of the call. */
  now?: Date;
  /** More variables of the template, such as `enable_thinking`. */
  variables?: Readonly<Record<string, unknown>>;
}

export interface ChatTemplateFacts {
  source: string;
  /** The text of the special tokens. Default: empty. */
  bosToken?: string;
  eosToken?: string;
  /** The file or key it comes from, for errors. */
  where: string;
}

/** The template is not valid Jinja. */
export class ChatTemplateInvalidError extends graftError('GRAFT_CHAT_TEMPLATE_INVALID', (where: string, cause: unknown) => ({
  what: `The chat template cannot be read: ${messageOf(cause)}.`,
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
export class ChatTemplateFailedError extends graftError('GRAFT_CHAT_TEMPLATE_FAILED', (where: string, cause: unknown) => ({
  what: `The chat template failed on these messages: ${messageOf(cause)}.`,
  where,
  fix: 'send messages of role system, user and assistant with text, or pass a template that fits the model.',
  cause,
})) {}

/** A message holds content that the template cannot take. */
export class ChatContentError extends graftError('GRAFT_CHAT_CONTENT_UNSUPPORTED', (what: string, position: number) => ({
  what,
  where: `messages[${position}].content`,
  fix: 'send a string, or parts of the form {"type": "text", "text": "..."}.',
})) {}

/** Turns the messages of a chat into the text that the model was trained on. */
export class ChatTemplate {
  readonly where: string;
  private readonly template: Template;
  private readonly bosToken: string;
  private readonly eosToken: string;
  private readonly content: ContentForm;

  /** @throws ChatTemplateInvalidError */
  constructor({ source, bosToken = '', eosToken = '', where }: ChatTemplateFacts) {
    this.where = where;
    this.bosToken = bosToken;
    this.eosToken = eosToken;
    this.content = contentFormOf(source);
    try {
      this.template = new Template(source);
    } catch (error) {
      throw new ChatTemplateInvalidError(where, error);
    }
  }

  /**
   * The prompt for these messages. It contains the beginning token if the template writes one, so encode it with `addSpecialTokens: false`.
   * @throws ChatTemplateRefusedError, ChatTemplateFailedError, ChatContentError
   */
  render(messages: readonly ChatMessage[], { addGenerationPrompt = true, tools, now, variables }: RenderOptions = {}): string {
    const scope = {
      ...jinjaConstants,
      ...variables,
      messages: messages.map((message, position) => this.withContent(message, position)),
      add_generation_prompt: addGenerationPrompt,
      bos_token: this.bosToken,
      eos_token: this.eosToken,
      tools: tools === undefined || tools.length === 0 ? null : tools,
      raise_exception: (said: unknown) => {
        throw new ChatTemplateRefusedError(String(said), this.where);
      },
      strftime_now: (format: string) => strftime(now ?? new Date(), format),
    };
    try {
      return renderIn(scope, this.template);
    } catch (error) {
      throw GraftError.is(error) ? error : new ChatTemplateFailedError(this.where, error);
    }
  }

  private withContent(message: ChatMessage, position: number): ChatMessage {
    const { content } = message;
    if (content === undefined || content === null) return message;
    if (typeof content === 'string') return this.content === 'parts' ? { ...message, content: [{ type: 'text', text: content }] } : message;
    for (const part of content) {
      if (part.type === 'text' && typeof part.text !== 'string') throw new ChatContentError('A part of type "text" has no text.', position);
    }
    return this.content === 'string' ? { ...message, content: joinText(content, position) } : message;
  }
}

/** The constants of every Jinja template. */
const jinjaConstants = { true: true, false: false, none: null, True: true, False: false, None: null, range };

/** Replaces `Template.render`, whose `raise_exception` throws errors that look like faults of the template. */
function renderIn(scope: Readonly<Record<string, unknown>>, template: Template): string {
  const environment = new Environment();
  for (const [name, value] of Object.entries(scope)) environment.set(name, value);
  return String(new Interpreter(environment).run(template.parsed).value);
}

function range(first: number, second?: number, step = 1): number[] {
  const [start, stop] = second === undefined ? [0, first] : [first, second];
  if (step === 0) throw new RangeError('range() needs a step other than 0');
  const numbers: number[] = [];
  for (let number = start; step > 0 ? number < stop : number > stop; number += step) numbers.push(number);
  return numbers;
}

/** The content that the template reads: strings, lists of parts, or either. */
type ContentForm = 'string' | 'parts' | 'either';

function contentFormOf(source: string): ContentForm {
  const walksParts = /\bfor\s+\w+\s+in\s+\w+(?:\.content\b|\[\s*['"]content['"]\s*\])/.test(source);
  if (!walksParts) return 'string';
  return /\bis\s+(?:not\s+)?string\b/.test(source) ? 'either' : 'parts';
}

function joinText(parts: readonly ContentPart[], position: number): string {
  const texts = parts.map((part) => {
    if (part.type !== 'text')
      throw new ChatContentError(`The model's chat template takes text only, not a part of type "${part.type}".`, position);
    return part.text ?? '';
  });
  return texts.join('\n');
}

/** `tokenizer.chat_template` of a GGUF; null without it. @throws ChatTemplateInvalidError */
export function chatTemplateFromGguf(metadata: GgufMetadata, where = 'GGUF metadata'): ChatTemplate | null {
  const source = metadata.get('tokenizer.chat_template');
  if (typeof source !== 'string') return null;
  return new ChatTemplate({ source, ...ggufSpecialTokens(metadata), where: `${where}, key tokenizer.chat_template` });
}

function ggufSpecialTokens(metadata: GgufMetadata): { bosToken: string; eosToken: string } {
  const tokens = metadata.get('tokenizer.ggml.tokens');
  const named = (key: string): string => {
    const id = metadata.get(`tokenizer.ggml.${key}`);
    const token: unknown = Array.isArray(tokens) && id !== undefined ? tokens[Number(id)] : undefined;
    return typeof token === 'string' ? token : '';
  };
  return { bosToken: named('bos_token_id'), eosToken: named('eos_token_id') };
}

/**
 * The chat template of a checkpoint's folder: `chat_template.jinja`, else `chat_template` in tokenizer_config.json (of several, the one named `default`).
 * Null if the folder has neither.
 * @throws ChatTemplateInvalidError
 */
export async function readChatTemplate(folder: string): Promise<ChatTemplate | null> {
  const configFile = join(folder, 'tokenizer_config.json');
  const config = (await readJsonFile(configFile, TokenizerConfig, (what) => new ChatTemplateInvalidError(configFile, what))) ?? {};
  const tokens = { bosToken: tokenName(config['bos_token']), eosToken: tokenName(config['eos_token']) };
  const ownFile = join(folder, 'chat_template.jinja');
  const own = await readIfThere(ownFile, (what) => new ChatTemplateInvalidError(ownFile, what));
  if (own !== null) return new ChatTemplate({ source: own, ...tokens, where: ownFile });
  const source = defaultTemplate(config['chat_template']);
  return source === null ? null : new ChatTemplate({ source, ...tokens, where: configFile });
}

const TokenizerConfig = z.record(z.string(), z.unknown());

function defaultTemplate(value: unknown): string | null {
  if (typeof value === 'string') return value;
  if (!Array.isArray(value)) return null;
  const named: unknown = value.find((entry) => entry?.name === 'default') ?? value[0];
  return isRecord(named) && typeof named['template'] === 'string' ? named['template'] : null;
}

function tokenName(value: unknown): string {
  if (isRecord(value)) return tokenName(value['content']);
  return typeof value === 'string' ? value : '';
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
  return format.replace(/%([A-Za-z%])/g, (directive, letter: string) => written[letter] ?? directive);
}
