import type { Engine } from '@graft/engine';
import Fastify, { type FastifyBaseLogger, type FastifyInstance, type FastifyReply, type FastifyRequest } from 'fastify';
import type { ImageHosts } from './images/fetch-image.ts';
import { noImageHosts } from './images/resolve-images.ts';
import { ServerMetrics } from './metrics.ts';
import { readParsedBodies } from './mount.ts';
import { ApiError, toApiError } from './openai/errors.ts';
import { completionRoutes } from './routes/completions.ts';
import { healthRoute } from './routes/health.ts';
import { modelsRoutes } from './routes/models.ts';
import { pageRoutes } from './routes/page.ts';
import { reloadRoute } from './routes/reload.ts';
import { RunningRequests } from './running-requests.ts';
import { checkReloadKey, hasKey, requireKey, type SecurityOptions, secure } from './security.ts';
import type { Metrics, Route } from './services.ts';

export interface AppOptions extends SecurityOptions {
  /** A pino logger. Default: silent. */
  logger?: FastifyBaseLogger;
  /**
   * Largest request body, in bytes, without images; a chat with a multimodal model gets as much more as its image limits allow. Default: 4 MiB, about a hundred
   * times the longest prompt.
   */
  bodyLimitBytes?: number;
  /** Hosts to fetch images from when a request names an http URL. Default: none. */
  imageHosts?: ImageHosts;
  /** The registry that gets the server's metrics as well. Default: a new one. */
  metrics?: Metrics;
  /** Routes of plugins. */
  routes?: readonly Route[];
}

/**
 * The HTTP application over an engine: OpenAI's routes, `/health`, `/metrics` and the chat page. It does not listen and does not own the engine. `app.close()`
 * refuses new requests and ends the running ones, streams with an error event.
 * @throws ReloadWithoutKeyError
 */
export function createApp(engine: Engine, options: AppOptions = {}): FastifyInstance {
  checkReloadKey(options);
  const bodyLimit = options.bodyLimitBytes ?? 4 * 1024 * 1024;
  const metrics = new ServerMetrics(engine, options.metrics);
  const app = Fastify({
    bodyLimit,
    // Hooks do not run for a malformed URL.
    frameworkErrors: (error, request, reply) => {
      metrics.watchRequest(request, reply);
      sendError(error, request, reply);
    },
    routerOptions: { ignoreTrailingSlash: true, maxParamLength: 512 },
    ...(options.logger === undefined ? {} : { loggerInstance: options.logger }),
  });
  // Only JSON: other sites' pages may send text/plain without a preflight (a "simple request").
  app.removeContentTypeParser('text/plain');
  const running = new RunningRequests();
  app.addHook('preClose', async () => {
    await running.stop(2000);
    // Idle connections that a browser opened ahead count as busy, and would hold up the shutdown for minutes.
    app.server.closeAllConnections();
  });
  app.setErrorHandler(sendError);
  metrics.watchRequests(app); // first, so that refused requests count
  secure(app, options);
  readParsedBodies(app);
  const methodsOf = recordMethods(app);
  pageRoutes(app);
  healthRoute(app, engine, (request) => hasKey(request, options.apiKey));
  modelsRoutes(app, engine);
  app.get('/metrics', (_request, reply) => metrics.answer(reply));
  const serving = { engine, metrics, running, imageHosts: options.imageHosts ?? noImageHosts };
  completionRoutes(app, serving, bodyLimit + imagesOf(engine));
  if (options.enableReload === true) reloadRoute(app, engine, running);
  void app.register(async (added) => {
    added.addHook('onRequest', async (request) => requireKey(request, options.apiKey));
    for (const route of options.routes ?? []) await route(added, { engine });
  });
  app.setNotFoundHandler((request, reply) => sendError(notFound(request, methodsOf), request, reply));
  return app;
}

/** The most bytes that the images of one request take in its body, as base64. */
function imagesOf({ info: { readsImages, imageLimits } }: Engine): number {
  return readsImages ? Math.ceil((imageLimits.maxImages * imageLimits.maxImageBytes * 4) / 3) : 0;
}

function sendError(error: unknown, request: FastifyRequest, reply: FastifyReply): void {
  const failure = toApiError(error);
  // An ApiError is a refusal on purpose; any other error belongs in the log.
  if (failure.status >= 500 && error !== failure) request.log.error({ err: error }, 'a request ended in an error');
  void reply.code(failure.status).headers(failure.headers).send(failure.body);
}

/** The methods of a path. Fastify answers 404 to a wrong method; this server answers 405 and names the right ones. */
function recordMethods(app: FastifyInstance): (path: string) => string[] {
  const methods = new Map<string, Set<string>>();
  app.addHook('onRoute', ({ url, method }) => {
    const known = methods.get(url) ?? new Set<string>();
    methods.set(url, known);
    for (const one of [method].flat()) known.add(one);
  });
  const matches = (pattern: string, path: string) =>
    pattern.endsWith('/*') ? path.startsWith(pattern.slice(0, -1)) : pattern === path.replace(/(?<=.)\/$/, '');
  return (path) => [...methods].filter(([pattern]) => matches(pattern, path)).flatMap(([, known]) => [...known]);
}

function notFound(request: FastifyRequest, methodsOf: (path: string) => string[]): ApiError {
  const path = request.url.split('?')[0]!;
  const methods = methodsOf(path);
  if (methods.length === 0) {
    return new ApiError({ status: 404, message: `Unknown URL: ${request.method} ${path}.`, code: 'unknown_url' });
  }
  return new ApiError({
    status: 405,
    message: `${path} does not take ${request.method}; it takes ${methods.join(', ')}.`,
    code: 'method_not_allowed',
    headers: { allow: methods.join(', ') },
  });
}
