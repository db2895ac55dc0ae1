import { type GenerateRequest, nearestNames, type SamplingParams } from '@graft/engine';
import { z } from 'zod';
import { ApiError, parseWith } from './errors.ts';

/**
 * Keys that OpenAI's clients send and that change nothing here: accepted and ignored. Keys that would change the answer and cannot be honoured are refused with
 * a reason. Any other key is refused with the nearest known name: a typo such as `temprature` would otherwise silently answer with the wrong sampling.
 */
const ignored = [
  'user',
  'metadata',
  'store',
  'service_tier',
  'parallel_tool_calls',
  'safety_identifier',
  'prompt_cache_key',
  'prompt_cache_retention',
  'prediction',
  'verbosity',
];

const maxChoices = 64;

const optional = <T extends z.ZodType>(type: T) => type.nullish().transform((value) => value ?? undefined);
const stopString = z.string().min(1);

/** Sampling keys of both routes: the keys of `SamplingParams` in snake case, with OpenAI's ranges. */
const sampling = {
  temperature: optional(z.number().min(0).max(2)),
  top_p: optional(z.number().gt(0).max(1)),
  top_k: optional(z.int().min(-1)).transform((value) => value && Math.max(0, value)),
  min_p: optional(z.number().min(0).max(1)),
  seed: optional(z.int()),
  stop: optional(z.union([stopString.transform((one) => [one]), z.array(stopString).max(16)])),
  stop_token_ids: optional(z.array(z.int().nonnegative())),
  ignore_eos: optional(z.boolean()),
  frequency_penalty: optional(z.number().min(-2).max(2)),
  presence_penalty: optional(z.number().min(-2).max(2)),
  repetition_penalty: optional(z.number().gt(0).max(2)),
  logit_bias: optional(z.record(z.string().regex(/^\d+$/, 'keys are token ids'), z.number().min(-100).max(100))),
};

const shared = {
  ...sampling,
  model: optional(z.string().min(1)),
  stream: optional(z.boolean()),
  stream_options: optional(z.looseObject({ include_usage: optional(z.boolean()) })),
  n: optional(z.int().min(1).max(maxChoices)),
  max_tokens: optional(z.int().positive()),
  add_special_tokens: optional(z.boolean()),
};

const textPart = z.object({ type: z.literal('text'), text: z.string() });
/** `detail` is ignored: an image has one size here. */
const imagePart = z.object({
  type: z.literal('image_url'),
  image_url: z.object({ url: z.string().min(1), detail: z.enum(['auto', 'low', 'high', 'original']).nullish() }),
});
const content = z.union([z.string(), z.array(z.looseObject({ type: z.string() }))]).nullish();

const toolCall = z.looseObject({ function: z.looseObject({ name: z.string() }) });
const chatMessage = z.looseObject({
  role: z.string().min(1),
  content,
  name: z.string().nullish(),
  tool_calls: z.array(toolCall).nullish(),
});

const ChatBody = z.object({
  ...shared,
  messages: z.array(chatMessage).min(1, 'at least one message is needed'),
  max_completion_tokens: optional(z.int().positive()),
  logprobs: optional(z.boolean()),
  top_logprobs: optional(z.int().min(0).max(20)),
  response_format: optional(z.looseObject({ type: z.string() })),
  tools: optional(z.array(z.looseObject({}))),
  tool_choice: z.unknown().optional(),
  documents: optional(z.array(z.record(z.string(), z.unknown()))),
  chat_template: optional(z.string().min(1)),
  chat_template_kwargs: optional(z.record(z.string(), z.unknown())),
  add_generation_prompt: optional(z.boolean()),
  reasoning_effort: optional(z.string()),
  functions: z.unknown().optional(),
  function_call: z.unknown().optional(),
  modalities: optional(z.array(z.string())),
  audio: z.unknown().optional(),
  web_search_options: z.unknown().optional(),
});

const tokenIds = z.array(z.int().nonnegative()).min(1);
const CompletionBody = z.object({
  ...shared,
  prompt: z.union([z.string(), tokenIds, z.array(z.string()).min(1).max(maxChoices), z.array(tokenIds).min(1).max(maxChoices)]),
  logprobs: optional(z.int().min(0).max(20)),
  echo: optional(z.boolean()),
  suffix: optional(z.string()),
  best_of: optional(z.int().positive()),
});
type ChatBody = z.output<typeof ChatBody>;
type CompletionBody = z.output<typeof CompletionBody>;
type SharedBody = Pick<ChatBody, keyof typeof shared>;

/** An image that a message names. */
export interface ImagePart {
  type: 'image_url';
  url: string;
  /** In the request, e.g. `messages[0].content[1].image_url`. */
  where: string;
}

export type CallPart = { type: 'text'; text: string } | ImagePart;

export interface CallMessage {
  role: string;
  /** A string where the message has only text. */
  content: string | CallPart[];
  /** `name`, `tool_calls` and what else the model's template may read. */
  [key: string]: unknown;
}

type Prompt = GenerateRequest['prompt'];
type ChatPrompt = Omit<Extract<Prompt, { messages: unknown }>, 'messages'>;
export type CallPrompt = Exclude<Prompt, { messages: unknown }> | (ChatPrompt & { messages: CallMessage[] });

/** A validated request of either route, in the engine's terms: each prompt gives `n` choices. */
export interface CompletionCall {
  model: string | undefined;
  prompts: CallPrompt[];
  n: number;
  sampling: z.input<typeof SamplingParams>;
  stream: boolean;
  includeUsage: boolean;
  /** Whether each answer begins with its prompt; only /v1/completions with text prompts. */
  echo: boolean;
}

/** The body of POST /v1/chat/completions. @throws ApiError 400 */
export function parseChatCall(body: unknown): CompletionCall {
  const chat = parseBody(ChatBody, body);
  refuseUnservedChat(chat);
  const messages = chat.messages.map((message, index) => toMessage(message, `messages[${index}]`));
  const maxTokens = chat.max_completion_tokens ?? chat.max_tokens;
  return {
    ...common(chat),
    prompts: [{ messages, ...specialTokens(chat), ...templateOptions(chat) }],
    sampling: { ...toSampling(chat, maxTokens), ...(chat.logprobs === true ? { logprobs: chat.top_logprobs ?? 0 } : {}) },
    echo: false,
  };
}

/** The body of POST /v1/completions; OpenAI's default of 16 tokens holds. @throws ApiError 400 */
export function parseTextCall(body: unknown): CompletionCall {
  const text = parseBody(CompletionBody, body);
  refuseUnservedText(text);
  const prompts = toPrompts(text.prompt).map((prompt) => ('text' in prompt ? { ...prompt, ...specialTokens(text) } : prompt));
  if (prompts.length * (text.n ?? 1) > maxChoices) refuse('n', `prompts times n is at most ${maxChoices} choices in one request.`);
  return {
    ...common(text),
    prompts,
    sampling: { ...toSampling(text, text.max_tokens ?? 16), ...(text.logprobs === undefined ? {} : { logprobs: text.logprobs }) },
    echo: text.echo === true,
  };
}

function parseBody<T extends z.ZodObject>(schema: T, body: unknown): z.output<T> {
  if (typeof body !== 'object' || body === null || Array.isArray(body)) {
    throw new ApiError({ status: 400, message: 'The request body must be a JSON object.', code: 'invalid_type' });
  }
  const known = [...Object.keys(schema.shape), ...ignored];
  const unknown = Object.keys(body).find((key) => !known.includes(key));
  if (unknown !== undefined) {
    const message = `Unknown key in the request: '${unknown}'. Did you mean '${nearestNames(unknown, known, 1)[0]}'?`;
    throw new ApiError({ status: 400, message, param: unknown, code: 'unknown_parameter' });
  }
  return parseWith(schema, body);
}

function common(body: SharedBody) {
  if (body.stream_options !== undefined && body.stream !== true) {
    refuse('stream_options', "'stream_options' is only allowed when 'stream' is true.", 'invalid_value');
  }
  return {
    model: body.model,
    n: body.n ?? 1,
    stream: body.stream === true,
    includeUsage: body.stream_options?.include_usage === true,
  };
}

function toSampling(body: SharedBody, maxTokens: number | undefined): z.input<typeof SamplingParams> {
  const keys = Object.keys(sampling) as (keyof typeof sampling)[];
  const given = keys.map((key) => [key.replace(/_([a-z])/g, (_, letter: string) => letter.toUpperCase()), body[key]] as const);
  return Object.fromEntries([...given, ['maxTokens', maxTokens] as const].filter(([, value]) => value !== undefined));
}

function toPrompts(prompt: CompletionBody['prompt']): CallPrompt[] {
  if (typeof prompt === 'string') return [{ text: prompt }];
  if (prompt.every((one) => typeof one === 'number')) return [{ tokenIds: prompt }];
  return prompt.map((one) => (typeof one === 'string' ? { text: one } : { tokenIds: one as number[] }));
}

/** Whether the model's beginning and end tokens are added; the engine's default if not given. */
const specialTokens = ({ add_special_tokens: addSpecialTokens }: SharedBody) =>
  addSpecialTokens === undefined ? {} : { addSpecialTokens };

/** The template's inputs other than the messages. `tool_choice: 'none'` hides the tools from the model. */
function templateOptions(chat: ChatBody): ChatPrompt {
  const { tools, documents, chat_template: template, add_generation_prompt: addGenerationPrompt, reasoning_effort } = chat;
  const given = { ...(reasoning_effort !== undefined && { reasoning_effort }), ...chat.chat_template_kwargs };
  const variables = Object.keys(given).length === 0 ? undefined : given;
  const options = { tools: chat.tool_choice === 'none' ? undefined : tools, documents, template, variables, addGenerationPrompt };
  return Object.fromEntries(Object.entries(options).filter(([, value]) => value !== undefined));
}

function toMessage(message: z.output<typeof chatMessage>, path: string): CallMessage {
  if ((message.content === null || message.content === undefined) && message.role !== 'assistant') {
    refuse(`${path}.content`, `A message of role '${message.role}' needs content: a string or an array of parts.`, 'invalid_value');
  }
  const calls = message.tool_calls?.map((call) => ({
    ...call,
    function: { ...call.function, arguments: argumentsOf(call.function['arguments']) },
  }));
  return {
    ...Object.fromEntries(Object.entries(message).filter(([, value]) => value !== null)), // such as `refusal`, in every answer of OpenAI's
    // OpenAI renamed `system`; chat templates know the old name only.
    role: message.role === 'developer' ? 'system' : message.role,
    content: contentOf(message.content, `${path}.content`),
    ...(calls !== undefined && { tool_calls: calls }),
  };
}

/** OpenAI's clients send a call's arguments as JSON in a string; templates take the object. */
function argumentsOf(value: unknown): unknown {
  if (typeof value !== 'string') return value;
  try {
    return JSON.parse(value === '' ? '{}' : value);
  } catch {
    return value;
  }
}

/** Joins the parts of a message that has only text. */
function contentOf(value: z.output<typeof content>, path: string): CallMessage['content'] {
  if (value === null || value === undefined) return '';
  if (typeof value === 'string') return value;
  const parts = value.map((part, index) => toPart(part, `${path}[${index}]`));
  if (parts.some(({ type }) => type === 'image_url')) return parts;
  return parts.map((part) => (part.type === 'text' ? part.text : '')).join('');
}

function toPart(part: { type: string }, path: string): CallPart {
  if (part.type === 'text') {
    const text = textPart.safeParse(part);
    return text.success ? text.data : refuse(`${path}.text`, 'A text part needs a string in text.', 'invalid_value');
  }
  if (part.type !== 'image_url')
    return refuse(`${path}.type`, `Content parts of type '${part.type}' are not served; send parts of type 'text' or 'image_url'.`);
  const image = imagePart.safeParse(part);
  if (image.success) return { type: 'image_url', url: image.data.image_url.url, where: `${path}.image_url` };
  return refuse(`${path}.image_url`, 'An image part needs {"url": "data:image/png;base64,..."} in image_url.', 'invalid_value');
}

function refuseUnservedChat(chat: ChatBody): void {
  const format = chat.response_format?.type ?? 'text';
  if (format !== 'text') refuse('response_format', `response_format '${format}' is not served; only 'text' is.`);
  if (isGiven(chat.tool_choice) && !['none', 'auto'].includes(chat.tool_choice as string)) {
    refuse('tool_choice', "A call cannot be forced; 'tool_choice' is 'auto' or 'none'.");
  }
  if (isGiven(chat.functions) && chat.function_call !== 'none') refuse('functions', 'Functions are not served by this version.');
  if (chat.modalities?.some((one) => one !== 'text')) refuse('modalities', "Only the modality 'text' is served.");
  if (isGiven(chat.audio)) refuse('audio', 'Audio is not served.');
  if (isGiven(chat.web_search_options)) refuse('web_search_options', 'Web search is not served.');
  if (chat.top_logprobs !== undefined && chat.logprobs !== true) {
    refuse('top_logprobs', "'top_logprobs' is only allowed when 'logprobs' is true.", 'invalid_value');
  }
}

function refuseUnservedText(text: CompletionBody): void {
  if (text.suffix !== undefined && text.suffix !== '')
    refuse('suffix', "'suffix' is not served: the models continue text, they do not fill in.");
  if (text.best_of !== undefined && text.best_of !== (text.n ?? 1)) {
    refuse('best_of', "'best_of' other than 'n' is not served; ask for 'n' choices and choose among them.");
  }
  if (text.echo !== true) return;
  if (text.logprobs !== undefined) refuse('echo', "'echo' with 'logprobs' is not served: prompt tokens have no log-probabilities here.");
  if (toPrompts(text.prompt).some((prompt) => 'tokenIds' in prompt)) refuse('echo', "'echo' is served for text prompts only.");
}

/** An empty list of tools asks for nothing. */
function isGiven(value: unknown): boolean {
  return value !== undefined && value !== null && !(Array.isArray(value) && value.length === 0);
}

function refuse(param: string, message: string, code = 'unsupported_value'): never {
  throw new ApiError({ status: 400, message, param, code });
}
