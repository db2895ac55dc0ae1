import type { Engine } from '@graft/engine';
import Fastify, { type FastifyBaseLogger, type FastifyInstance, type FastifyReply, type FastifyRequest } from 'fastify';
import type { ImageHosts } from './images/fetch-image.ts';
import { noImageHosts } from './images/resolve-images.ts';
import { Metrics } from './metrics.ts';
import { ApiError, toApiError } from './openai/errors.ts';
import { chatCompletionsRoute } from './routes/chat-completions.ts';
import { completionsRoute } from './routes/completions.ts';
import { healthRoute } from './routes/health.ts';
import { metricsRoute } from './routes/metrics.ts';
import { modelsRoutes } from './routes/models.ts';
import { pageRoutes } from './routes/page.ts';
import { reloadRoute } from './routes/reload.ts';
import { RunningRequests } from './running-requests.ts';
import { checkReloadKey, hasKey, type SecurityOptions, secure } from './security.ts';

export interface AppOptions extends SecurityOptions {
  /** A pino logger. Default: silent. */
  logger?: FastifyBaseLogger;
  /**
   * Largest request body, in bytes, without its images, for which a chat with a model that reads them has as much more as its limits allow. Default: 4 MiB,
   * some hundred times the longest prompt that a context holds.
   */
  bodyLimitBytes?: number;
  /** From where images are fetched that a request names by an http URL. Default: from nowhere. */
  imageHosts?: ImageHosts;
}

/**
 * The HTTP application over an engine: OpenAI's routes, `/health`, `/metrics` and the chat page. It does not listen and does not own
 * the engine; `app.close()` ends the running requests (streams with an error event) and refuses new ones.
 * @throws ReloadWithoutKeyError
 */
export function createApp(engine: Engine, options: AppOptions = {}): FastifyInstance {
  checkReloadKey(options);
  const bodyLimit = options.bodyLimitBytes ?? 4 * 1024 * 1024;
  const metrics = new Metrics(engine);
  const app = Fastify({
    bodyLimit,
    // A URL that cannot be read comes to no hook.
    frameworkErrors: (error, request, reply) => {
      metrics.watchRequest(request, reply);
      sendError(error, request, reply);
    },
    routerOptions: { ignoreTrailingSlash: true, maxParamLength: 512 },
    ...(options.logger === undefined ? {} : { loggerInstance: options.logger }),
  });
  // Only JSON: a page of another site can send text/plain without asking first (a "simple request").
  app.removeContentTypeParser('text/plain');
  const running = new RunningRequests();
  app.addHook('preClose', async () => {
    await running.stop(2000);
    // Connections that a browser opened ahead and never used count as busy; waiting for them would take minutes.
    app.server.closeAllConnections();
  });
  app.setErrorHandler(sendError);
  metrics.watchRequests(app); // before what may refuse one
  secure(app, options);
  const methodsOf = recordMethods(app);
  pageRoutes(app);
  healthRoute(app, engine, (request) => hasKey(request, options.apiKey));
  modelsRoutes(app, engine);
  metricsRoute(app, metrics);
  const serving = { engine, metrics, running, imageHosts: options.imageHosts ?? noImageHosts };
  chatCompletionsRoute(app, serving, bodyLimit + imagesOf(engine));
  completionsRoute(app, serving);
  if (options.enableReload === true) reloadRoute(app, engine, running);
  app.setNotFoundHandler((request, reply) => sendError(notFound(request, methodsOf), request, reply));
  return app;
}

/** Bytes of a body that the images of one request take at most, as base64. */
function imagesOf({ info: { readsImages, imageLimits } }: Engine): number {
  return readsImages ? Math.ceil((imageLimits.maxImages * imageLimits.maxImageBytes * 4) / 3) : 0;
}

function sendError(error: unknown, request: FastifyRequest, reply: FastifyReply): void {
  const failure = toApiError(error);
  // An ApiError is our own refusal; what stands behind any other one belongs in the log.
  if (failure.status >= 500 && error !== failure) request.log.error({ err: error }, 'a request ended in an error');
  void reply.code(failure.status).headers(failure.headers).send(failure.body);
}

/** Fastify answers a known path with a wrong method as if the path did not exist; we say which method it has. */
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
    return new ApiError({ status: 404, message: `There is nothing at ${request.method} ${path}.`, code: 'unknown_url' });
  }
  return new ApiError({
    status: 405,
    message: `${path} does not take ${request.method}; it takes ${methods.join(', ')}.`,
    code: 'method_not_allowed',
    headers: { allow: methods.join(', ') },
  });
}
