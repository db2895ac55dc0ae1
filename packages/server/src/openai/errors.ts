import { describeIssue, GraftError, messageOf } from '@graft/common';
import type { z } from 'zod';

/** The `error` member of OpenAI's error body. */
export interface ApiErrorBody {
  error: { message: string; type: string; param: string | null; code: string | null };
}

export interface ApiErrorFacts {
  status: number;
  message: string;
  /** OpenAI's `type`. Default: `invalid_request_error`. */
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
    super({ code: 'GRAFT_API_REQUEST', what: message, where: param ?? undefined, cause });
    this.status = status;
    this.body = { error: { message, type, param, code } };
    this.headers = headers;
  }
}

/** Engine errors that the client can fix, by OpenAI's code. */
const refusals: Record<string, readonly string[]> = {
  context_length_exceeded: ['GRAFT_PROMPT_TOO_LONG'],
  image_too_large: ['GRAFT_IMAGE_BYTES', 'GRAFT_IMAGE_FRAMES', 'GRAFT_IMAGE_PIXELS', 'GRAFT_IMAGE_SIDE'],
  image_url_not_allowed: ['GRAFT_IMAGE_ADDRESS', 'GRAFT_IMAGE_HOST'],
  invalid_image: ['GRAFT_IMAGE_BROKEN', 'GRAFT_IMAGE_TYPE'],
  invalid_image_url: ['GRAFT_IMAGE_FETCH', 'GRAFT_IMAGE_URL'],
  invalid_value: [
    'GRAFT_CHAT_TEMPLATE_FAILED',
    'GRAFT_CHAT_TEMPLATE_INVALID',
    'GRAFT_CHAT_TEMPLATE_REFUSED',
    'GRAFT_CHAT_TEMPLATE_UNKNOWN',
    'GRAFT_IMAGE_PLACES',
    'GRAFT_INVALID_REQUEST',
    'GRAFT_LOGIT_BIAS_TOKEN',
    'GRAFT_TOKEN_ID_INVALID',
    'GRAFT_TOKEN_OUT_OF_RANGE',
  ],
  too_many_images: ['GRAFT_IMAGE_COUNT'],
  unsupported_value: ['GRAFT_CHAT_CONTENT_UNSUPPORTED', 'GRAFT_MODEL_READS_NO_IMAGES', 'GRAFT_NO_TOKENIZER'],
};

const invalidJson = { status: 400, code: 'invalid_json', message: 'The request body is not valid JSON.' };

/** Fastify's refusals, by their code. */
const frameworkErrors: Partial<Record<string, ApiErrorFacts>> = {
  FST_ERR_CTP_BODY_TOO_LARGE: { status: 413, code: 'request_too_large', message: 'The request body is too large.' },
  FST_ERR_CTP_EMPTY_JSON_BODY: { ...invalidJson, message: 'The request has no body; send a JSON object.' },
  FST_ERR_CTP_INVALID_JSON_BODY: invalidJson,
  FST_ERR_CTP_INVALID_CONTENT_LENGTH: {
    ...invalidJson,
    code: 'invalid_content_length',
    message: "The body's size and Content-Length differ.",
  },
  FST_ERR_CTP_INVALID_MEDIA_TYPE: {
    status: 415,
    code: 'unsupported_media_type',
    message: 'Unsupported content type; send the body as application/json.',
  },
};

const internalError = { status: 500, type: 'server_error', code: 'internal_error' };

/** Turns anything thrown into an answer. Engine errors keep their words; an unknown error reveals nothing. */
export function toApiError(error: unknown): ApiError {
  if (error instanceof ApiError) return error;
  if (GraftError.is(error)) return fromGraftError(error);
  const { code = '', statusCode: status = 500 } = Object(error) as { code?: unknown; statusCode?: number };
  const known = frameworkErrors[String(code)] ?? (error instanceof SyntaxError ? invalidJson : undefined);
  if (known !== undefined) return new ApiError({ ...known, cause: error });
  if (status >= 400 && status < 500) return new ApiError({ status, message: messageOf(error), cause: error });
  return new ApiError({ ...internalError, message: 'The server met an unexpected error; its log has the details.', cause: error });
}

function fromGraftError(error: GraftError): ApiError {
  const { code, what, where, fix } = error;
  const message = fix === undefined ? what : `${what} ${fix}`;
  const [refusal] = Object.entries(refusals).find(([, codes]) => codes.includes(code)) ?? [];
  if (refusal !== undefined) {
    const param = code.includes('_IMAGE') && where !== undefined ? where : null;
    return new ApiError({ status: code === 'GRAFT_IMAGE_BYTES' ? 413 : 400, code: refusal, message, param, cause: error });
  }
  if (code === 'GRAFT_ENGINE_CLOSED') return new ApiError({ ...internalError, status: 503, code: 'engine_closed', message, cause: error });
  return new ApiError({ ...internalError, code, message, cause: error });
}

/** Parses a request's body. @throws ApiError for the first issue, with the key's path as OpenAI writes it: `messages[0].content`. */
export function parseWith<T extends z.ZodType>(schema: T, body: unknown): z.output<T> {
  const parsed = schema.safeParse(body);
  if (parsed.success) return parsed.data;
  const { what, where } = describeIssue(parsed.error, schema);
  const param = where.replace(/\.(\d+)(?=\.|$)/g, '[$1]');
  const facts = { status: 400, code: 'invalid_value' };
  throw new ApiError(param === '' ? { ...facts, message: what } : { ...facts, message: `Invalid value for '${param}': ${what}`, param });
}
