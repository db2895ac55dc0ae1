import { GraftError, messageOf } from '@graft/common';
import type { z } from 'zod';

/** The `error` member of OpenAI's error body. */
export interface ApiErrorBody {
  error: { message: string; type: string; param: string | null; code: string | null };
}

export interface ApiErrorFacts {
  status: number;
  message: string;
  /** OpenAI's `type`; `invalid_request_error` unless given. */
  type?: string;
  /** The key of the request at fault, e.g. `messages[0].content`. */
  param?: string | null;
  /** OpenAI's `code`, e.g. `model_not_found`. */
  code?: string | null;
  headers?: Record<string, string>;
  cause?: unknown;
}

/** A request that is answered with an error in OpenAI's shape. */
export class ApiError extends GraftError {
  readonly status: number;
  readonly body: ApiErrorBody;
  readonly headers: Record<string, string>;

  constructor({ status, message, type = 'invalid_request_error', param = null, code = null, headers = {}, cause }: ApiErrorFacts) {
    super({ code: 'GRAFT_API_REQUEST', what: message, ...(param === null ? {} : { where: param }), cause });
    this.status = status;
    this.body = { error: { message, type, param, code } };
    this.headers = headers;
  }
}

interface Mapping {
  status: number;
  type: string;
  code: string | null;
}

const refusal = (code: string): Mapping => ({ status: 400, type: 'invalid_request_error', code });

/** Engine errors that a client can do something about; every other one is a 500. */
const engineErrors: Partial<Record<string, Mapping>> = {
  GRAFT_PROMPT_TOO_LONG: refusal('context_length_exceeded'),
  GRAFT_INVALID_REQUEST: refusal('invalid_value'),
  GRAFT_TOKEN_OUT_OF_RANGE: refusal('invalid_value'),
  GRAFT_TOKEN_ID_INVALID: refusal('invalid_value'),
  GRAFT_LOGIT_BIAS_TOKEN: refusal('invalid_value'),
  GRAFT_STOP_STRING_EMPTY: refusal('invalid_value'),
  GRAFT_NO_TOKENIZER: refusal('unsupported_value'),
  GRAFT_CHAT_TEMPLATE_MISSING: refusal('unsupported_value'),
  GRAFT_CHAT_TEMPLATE_REFUSED: refusal('invalid_value'),
  GRAFT_CHAT_CONTENT_UNSUPPORTED: refusal('unsupported_value'),
  GRAFT_MODEL_READS_NO_IMAGES: refusal('unsupported_value'),
  GRAFT_IMAGE_ADDRESS: refusal('image_url_not_allowed'),
  GRAFT_IMAGE_BROKEN: refusal('invalid_image'),
  GRAFT_IMAGE_BYTES: { status: 413, type: 'invalid_request_error', code: 'image_too_large' },
  GRAFT_IMAGE_COUNT: refusal('too_many_images'),
  GRAFT_IMAGE_FETCH: refusal('invalid_image_url'),
  GRAFT_IMAGE_FRAMES: refusal('image_too_large'),
  GRAFT_IMAGE_HOST: refusal('image_url_not_allowed'),
  GRAFT_IMAGE_PIXELS: refusal('image_too_large'),
  GRAFT_IMAGE_PLACES: refusal('invalid_value'),
  GRAFT_IMAGE_SIDE: refusal('image_too_large'),
  GRAFT_IMAGE_TYPE: refusal('invalid_image'),
  GRAFT_IMAGE_URL: refusal('invalid_image_url'),
  GRAFT_ENGINE_CLOSED: { status: 503, type: 'server_error', code: 'engine_closed' },
};

/** Fastify's own refusals, by their code. */
const frameworkErrors: Partial<Record<string, { status: number; code: string; message: string }>> = {
  FST_ERR_CTP_EMPTY_JSON_BODY: { status: 400, code: 'invalid_json', message: 'The request has no body; send a JSON object.' },
  FST_ERR_CTP_INVALID_JSON_BODY: { status: 400, code: 'invalid_json', message: 'The request body is not valid JSON.' },
  FST_ERR_CTP_INVALID_CONTENT_LENGTH: {
    status: 400,
    code: 'invalid_content_length',
    message: "The body's size and Content-Length differ.",
  },
  FST_ERR_CTP_INVALID_MEDIA_TYPE: {
    status: 415,
    code: 'unsupported_media_type',
    message: 'Unsupported content type; send the body as application/json.',
  },
};

/** What a thrown value becomes on the wire. Engine errors keep their words; anything unknown says nothing of the inside. */
export function toApiError(error: unknown): ApiError {
  if (error instanceof ApiError) return error;
  if (GraftError.is(error)) return fromGraftError(error);
  const code = codeOf(error);
  if (code === 'FST_ERR_CTP_BODY_TOO_LARGE') {
    return new ApiError({ status: 413, message: 'The request body is too large.', code: 'request_too_large', cause: error });
  }
  const known = frameworkErrors[code];
  if (known !== undefined) return new ApiError({ ...known, cause: error });
  if (error instanceof SyntaxError) return new ApiError({ ...frameworkErrors['FST_ERR_CTP_INVALID_JSON_BODY']!, cause: error });
  const status = statusOf(error);
  if (status >= 400 && status < 500) return new ApiError({ status, message: messageOf(error), cause: error });
  return new ApiError({
    status: 500,
    type: 'server_error',
    code: 'internal_error',
    message: 'The server met an unexpected error; its log has the details.',
    cause: error,
  });
}

function fromGraftError(error: GraftError): ApiError {
  const message = [error.what, error.fix].filter((line) => line !== undefined).join(' ');
  const { status, type, code } = engineErrors[error.code] ?? { status: 500, type: 'server_error', code: error.code };
  const param = status < 500 && error.code.includes('_IMAGE') && error.where !== undefined ? { param: error.where } : {};
  return new ApiError({ status, type, code, message, ...param, cause: error });
}

/** The first issue of a failed parse, with the key's path as OpenAI writes it: `messages[0].content`. */
export function fromZodError(error: z.ZodError): ApiError {
  const issue = deepest(error.issues[0]!);
  const param = paramOf(issue.path);
  return new ApiError({
    status: 400,
    message: param === '' ? issue.message : `Invalid value for '${param}': ${issue.message}`,
    param: param === '' ? null : param,
    code: 'invalid_value',
  });
}

/** A failed union says little; the branch that got furthest says what is wrong. */
function deepest(issue: z.core.$ZodIssue): { path: PropertyKey[]; message: string } {
  if (issue.code === 'invalid_key') return { path: issue.path, message: issue.issues[0]?.message ?? issue.message };
  if (issue.code !== 'invalid_union' || issue.errors.length === 0) return { path: issue.path, message: issue.message };
  const inner = issue.errors.flatMap((branch) => branch.slice(0, 1).map(deepest));
  const furthest = inner.reduce((best, one) => (one.path.length > best.path.length ? one : best), {
    path: [] as PropertyKey[],
    message: '',
  });
  if (furthest.path.length === 0) return { path: issue.path, message: [...new Set(inner.map((one) => one.message))].join('; or ') };
  return { path: [...issue.path, ...furthest.path], message: furthest.message };
}

function paramOf(path: PropertyKey[]): string {
  return path.reduce<string>(
    (text, key) => (typeof key === 'number' ? `${text}[${key}]` : `${text}${text === '' ? '' : '.'}${String(key)}`),
    '',
  );
}

function codeOf(error: unknown): string {
  return typeof error === 'object' && error !== null && 'code' in error ? String(error.code) : '';
}

function statusOf(error: unknown): number {
  return typeof error === 'object' && error !== null && 'statusCode' in error ? Number(error.statusCode) : 500;
}
