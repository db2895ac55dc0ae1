import { createHash, timingSafeEqual } from 'node:crypto';
import { graftError } from '@graft/common';
import type { FastifyInstance, FastifyRequest } from 'fastify';
import { ApiError } from './openai/errors.ts';

export interface SecurityOptions {
  /** Required of every request to /v1, /admin and /metrics as `Authorization: Bearer`. */
  apiKey?: string;
  /** Adds POST /admin/reload, which needs a key. Default: false. */
  enableReload?: boolean;
  /** Host names that a request may use; undefined accepts all. */
  allowedHosts?: string[];
  /** Origins whose scripts may call this server; `*` means all. Default: none. */
  allowedOrigins?: string[];
}

/** Names of this machine. They shut out a foreign site whose name points here (DNS rebinding). */
export const loopbackHosts = ['localhost', '127.0.0.1', '[::1]'];

/** Reloading was enabled without a key: anyone could exchange the weights. */
export class ReloadWithoutKeyError extends graftError('GRAFT_RELOAD_WITHOUT_KEY', () => ({
  what: 'Whoever reaches this server could make it serve other weights: reloading is enabled without an API key.',
  where: '--enable-reload',
  fix: 'give an --api-key, or leave --enable-reload out.',
})) {}

/** @throws ReloadWithoutKeyError */
export function checkReloadKey({ enableReload, apiKey }: SecurityOptions): void {
  if (enableReload === true && (apiKey ?? '').trim() === '') throw new ReloadWithoutKeyError();
}

/** Refuses unwanted requests before their bodies are read, and sets the headers of every answer. */
export function secure(app: FastifyInstance, options: SecurityOptions): void {
  const { allowedHosts, allowedOrigins = [] } = options;
  app.addHook('onRequest', async (request, reply) => {
    reply.headers({ 'x-content-type-options': 'nosniff', 'referrer-policy': 'no-referrer', 'x-frame-options': 'DENY' });
    if (allowedHosts !== undefined) checkHost(request, allowedHosts);
    const { origin } = request.headers;
    if (origin !== undefined && (allowedOrigins.includes('*') || allowedOrigins.includes(origin))) {
      reply.headers({ 'access-control-allow-origin': origin, vary: 'Origin' });
      if (request.method === 'OPTIONS') {
        reply.headers({
          'access-control-allow-methods': 'GET, POST',
          'access-control-allow-headers': 'authorization, content-type, x-stainless-os, x-stainless-lang',
          'access-control-max-age': '600',
        });
        return reply.code(204).send();
      }
    }
    if (isApi(request)) requireKey(request, options.apiKey);
    return undefined;
  });
}

/** @throws ApiError for a request without the key. */
export function requireKey(request: FastifyRequest, apiKey: string | undefined): void {
  if (hasKey(request, apiKey)) return;
  const message = request.headers.authorization === undefined ? 'This server asks for an API key.' : 'The API key is wrong.';
  throw new ApiError({
    status: 401,
    code: 'invalid_api_key',
    message: `${message} Send it as "Authorization: Bearer KEY".`,
    headers: { 'www-authenticate': 'Bearer' },
  });
}

/** Whether the request carries the key, or no key is required. Compares digests, whose lengths are equal, in constant time. */
export function hasKey(request: FastifyRequest, apiKey: string | undefined): boolean {
  if (apiKey === undefined) return true;
  const given = /^Bearer\s+(.+)$/i.exec(request.headers.authorization ?? '')?.[1] ?? '';
  const digest = (text: string) => createHash('sha256').update(text).digest();
  return timingSafeEqual(digest(given.trim()), digest(apiKey));
}

/** Reads the matched route, not the URL, which has many spellings (`/%761/models`). */
function isApi({ routeOptions: { url } }: FastifyRequest): boolean {
  return url?.startsWith('/v1/') === true || url?.startsWith('/admin/') === true || url === '/metrics';
}

function checkHost(request: FastifyRequest, allowed: string[]): void {
  const host = (request.headers.host ?? '').toLowerCase().replace(/:\d+$/, '');
  if (allowed.includes(host) || host.endsWith('.localhost')) return;
  throw new ApiError({
    status: 403,
    code: 'host_not_allowed',
    message: `This server does not answer to the host name '${host}'. Start it with --allowed-host ${host || 'NAME'} if it should.`,
  });
}
