import { describeIssue, keysAt, nearestNames, type PlaceKey } from '@graft/common';
import type { z } from 'zod';
import { InvalidRequestError } from './errors.ts';
import { GenerateRequest, Prompt } from './request.ts';
import { SamplingParams } from './sampling-params.ts';

/** Our names for keys of other libraries, in camelCase. */
const otherNames: Record<string, string> = {
  maxCompletionTokens: 'maxTokens',
  maxNewTokens: 'maxTokens',
  maxOutputTokens: 'maxTokens',
  stopSequences: 'stop',
  topLogprobs: 'logprobs',
  inputIds: 'tokenIds',
  promptTokenIds: 'tokenIds',
  chatTemplateKwargs: 'variables',
  chatTemplate: 'template',
};

/** Fixes for keys of other libraries that no key of a request matches. */
const otherFixes: Record<string, string> = {
  model: 'leave it out: an engine serves one model.',
  n: 'leave it out, and call `generate` once for each answer.',
  stream: 'leave it out: `generate` always streams.',
  signal: 'pass it in the second argument: `generate(request, { signal })`.',
  system: "write `prompt: { messages: [{ role: 'system', content: ... }, ...] }`.",
  responseFormat: 'leave it out, and ask for the format in the prompt: the engine does not constrain an answer yet.',
};

const promptForms = '`prompt: { text: ... }`, `{ tokenIds: ... }` or `{ messages: ... }`';

/**
 * A request with its defaults.
 * @throws InvalidRequestError, which names the key that is wrong and the place where it belongs.
 */
export function parseRequest(request: GenerateRequest, defaults: GenerateRequest['sampling']): z.output<typeof GenerateRequest> {
  const given: unknown = request;
  if (!isObject(given)) throw new InvalidRequestError(`A request is an object, not ${kindOf(given)}.`, 'request', `write ${promptForms}.`);
  const { sampling = {}, ...rest } = given;
  const result = GenerateRequest.safeParse({ ...rest, sampling: isObject(sampling) ? { ...defaults, ...sampling } : sampling });
  if (result.success) return result.data;
  const { what, where, fix } = describeIssue(result.error, GenerateRequest, placeKey);
  const { prompt } = given;
  if (!where.startsWith('prompt') || (isObject(prompt) && Object.keys(prompt).length > 0)) throw new InvalidRequestError(what, where, fix);
  const problem =
    prompt === undefined
      ? 'The prompt is missing.'
      : isObject(prompt)
        ? 'The prompt is empty.'
        : `A prompt is an object, not ${kindOf(prompt)}.`;
  throw new InvalidRequestError(problem, 'prompt', promptFix(prompt));
}

/** How the keys of a request are written, each in its place. */
const written: Record<string, string> = {
  prompt: '`prompt: { ... }`',
  sampling: '`sampling: { ... }`',
  ...Object.fromEntries(keysAt(Prompt, []).map((key) => [key, `\`prompt: { ${key}: ... }\``])),
  ...Object.fromEntries(keysAt(SamplingParams, []).map((key) => [key, `\`sampling: { ${key}: ... }\``])),
};

const placeKey: PlaceKey = (key, path) => {
  if (!['', 'prompt', 'sampling'].includes(path.join('.'))) return undefined;
  const camel = key.replace(/_([a-z])/g, (_, letter: string) => letter.toUpperCase());
  const name = otherNames[camel] ?? camel;
  const form = Prompt.options.map(({ shape }) => Object.keys(shape)).find((keys) => keys.includes(key))?.[0];
  if (form === key && path[0] === 'prompt') return `a prompt has one of these forms: ${promptForms}.`;
  if (form !== undefined && path[0] === 'prompt')
    return `\`${key}\` goes with \`${form}\`: write \`prompt: { ${form}: ..., ${key}: ... }\`.`;
  if (Object.hasOwn(written, name)) return `write ${written[name]}.`;
  return otherFixes[name] ?? `did you mean ${written[nearestNames(name, Object.keys(written), 1)[0]!]}?`;
};

function promptFix(prompt: unknown): string {
  if (typeof prompt === 'string') return 'write `prompt: { text: ... }`.';
  if (!Array.isArray(prompt)) return `write ${promptForms}.`;
  return `write ${written[isObject(prompt[0]) ? 'messages' : 'tokenIds']}.`;
}

const isObject = (value: unknown): value is Record<string, unknown> => typeof value === 'object' && value !== null && !Array.isArray(value);

const kindOf = (value: unknown): string =>
  value === null || value === undefined ? String(value) : Array.isArray(value) ? 'a list' : `a ${typeof value}`;
