import type { IncomingMessage } from 'node:http';
import { Readable } from 'node:stream';
import type { FastifyInstance, FastifyPluginAsync, RouteHandlerMethod } from 'fastify';

/**
 * An application of `createApp` as a plugin of another Fastify application: `await host.register(mount(app), { prefix: '/llm' })`. The host's `onRequest` hooks
 * run first; its content-type parsers do not see these requests. Closing the host closes the application.
 */
export function mount(app: FastifyInstance): FastifyPluginAsync {
  return async (scope) => {
    await app.ready();
    scope.removeAllContentTypeParsers();
    scope.addContentTypeParser('*', (_request, _payload, done) => done(null)); // the application reads the body
    scope.addHook('preClose', () => app.close());
    const serve: RouteHandlerMethod = ({ raw }, reply) => {
      reply.hijack();
      raw.url = raw.url!.slice(scope.prefix.length).replace(/^(?!\/)/, '/');
      app.routing(raw, reply.raw);
    };
    scope.all('/', serve);
    scope.all('/*', serve);
  };
}

/** Reads a body that a parser of Express has read before, such as `express.json()`. */
export function readParsedBodies(app: FastifyInstance): void {
  app.addHook('preParsing', async ({ raw, headers }, _reply, payload) => {
    const { body } = raw as IncomingMessage & { body?: unknown };
    if (body === undefined || !raw.readableEnded) return payload;
    const text = typeof body === 'string' || Buffer.isBuffer(body) ? body : JSON.stringify(body);
    return Object.assign(Readable.from([text], { objectMode: false }), { receivedEncodedLength: Number(headers['content-length'] ?? 0) });
  });
}
