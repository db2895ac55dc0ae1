import {
  type LanguageModelV3CallOptions,
  type LanguageModelV3FilePart,
  type LanguageModelV3Message,
  type LanguageModelV3TextPart,
  type LanguageModelV3ToolResultPart,
  type SharedV3Warning,
  UnsupportedFunctionalityError,
} from '@ai-sdk/provider';
import type { ChatMessage, GenerateRequest } from '@graft/engine';
import type { GraftModelOptions } from './provider.ts';

/**
 * A call of the AI SDK as a request to the engine. What the engine cannot honour is a warning.
 * @throws UnsupportedFunctionalityError for content that the model would not see.
 */
export function readCall(
  call: LanguageModelV3CallOptions,
  { sampling, variables }: GraftModelOptions,
): { request: GenerateRequest; warnings: SharedV3Warning[] } {
  const warnings: SharedV3Warning[] = [];
  const warn = (feature: string, details: string): void => void warnings.push({ type: 'unsupported', feature, details });
  const tools = toolsOf(call, warn);
  const messages = call.prompt.flatMap(messagesOf);
  if (call.responseFormat?.type === 'json') {
    messages.unshift(...jsonInstruction(messages, call.responseFormat.schema));
    warn('responseFormat', 'The prompt asks for JSON; the answer is not constrained to it, nor to the schema.');
  }
  const settings = {
    maxTokens: call.maxOutputTokens,
    temperature: call.temperature,
    stop: call.stopSequences,
    topP: call.topP,
    topK: call.topK,
    presencePenalty: call.presencePenalty,
    frequencyPenalty: call.frequencyPenalty,
    seed: call.seed,
  };
  const given = Object.fromEntries(Object.entries(settings).filter(([, value]) => value !== undefined));
  return {
    request: {
      prompt: { messages, ...(tools.length > 0 && { tools }), ...(variables !== undefined && { variables }) },
      sampling: { ...sampling, ...given },
    },
    warnings,
  };
}

/** The tools in OpenAI's form, for the chat template. */
function toolsOf({ tools = [], toolChoice }: LanguageModelV3CallOptions, warn: (feature: string, details: string) => void): object[] {
  if (toolChoice?.type === 'none') return [];
  if (toolChoice?.type === 'required' || toolChoice?.type === 'tool') warn('toolChoice', 'The model decides whether it calls a tool.');
  const functions = tools.flatMap((tool) => {
    if (tool.type === 'function') return [tool];
    warn(`tool ${tool.id}`, 'The engine runs no tools.');
    return [];
  });
  if (functions.length > 0)
    warn('tools', "The model's chat template gets the tools; a call in the answer stays text, as the model writes it.");
  return functions.map(({ name, description, inputSchema }) => ({
    type: 'function',
    function: { name, ...(description !== undefined && { description }), parameters: inputSchema },
  }));
}

/** A system message that asks for JSON, in place of the chat's own if it begins with one. */
function jsonInstruction(messages: ChatMessage[], schema: unknown): ChatMessage[] {
  const begins = messages[0]?.role === 'system' ? [messages.shift()!.content as string] : [];
  const form = schema === undefined ? [] : [`JSON schema:\n${JSON.stringify(schema)}`];
  const ask = schema === undefined ? 'Answer with JSON only.' : 'Answer only with JSON that matches the schema.';
  return [{ role: 'system', content: [...begins, ...form, ask].join('\n\n') }];
}

function messagesOf({ role, content }: LanguageModelV3Message): ChatMessage[] {
  if (role === 'system') return [{ role, content }];
  if (role === 'user') return [{ role, content: userContent(content) }];
  if (role === 'tool') return content.filter((part) => part.type === 'tool-result').map(toolResult);
  const textOf = (type: 'text' | 'reasoning') =>
    content.flatMap((part) => (part.type === type ? [(part as { text: string }).text] : [])).join('');
  const calls = content.flatMap((part) =>
    part.type === 'tool-call' ? [{ id: part.toolCallId, type: 'function', function: { name: part.toolName, arguments: part.input } }] : [],
  );
  const message = { role, content: textOf('text'), ...(calls.length > 0 && { tool_calls: calls }) };
  const reasoning = textOf('reasoning');
  const answer = reasoning === '' ? message : { ...message, reasoning_content: reasoning };
  return [answer, ...content.filter((part) => part.type === 'tool-result').map(toolResult)];
}

function userContent(parts: (LanguageModelV3TextPart | LanguageModelV3FilePart)[]): Exclude<ChatMessage['content'], undefined> {
  if (parts.every((part) => part.type === 'text')) return parts.map(({ text }) => text).join('');
  return parts.map((part) => (part.type === 'text' ? { type: 'text', text: part.text } : { type: 'image', data: imageOf(part) }));
}

function imageOf({ data, mediaType }: LanguageModelV3FilePart): Uint8Array {
  if (!mediaType.startsWith('image/')) throw new UnsupportedFunctionalityError({ functionality: `files of type ${mediaType}` });
  if (data instanceof URL) throw new UnsupportedFunctionalityError({ functionality: 'images by URL' });
  return typeof data === 'string' ? Buffer.from(data, 'base64') : data;
}

function toolResult({ toolCallId, toolName, output }: LanguageModelV3ToolResultPart): ChatMessage {
  const value = output.type === 'execution-denied' ? (output.reason ?? 'The user denied this call.') : output.value;
  return { role: 'tool', tool_call_id: toolCallId, name: toolName, content: typeof value === 'string' ? value : JSON.stringify(value) };
}
