import { messageOf } from '@graft/common';
import type { Engine } from '@graft/engine';
import type { FastifyInstance, FastifyRequest } from 'fastify';

/**
 * GET /health: whether the engine is alive, the served model, why that class serves, and the counts. It needs no key, because load balancers call it. If a
 * key is set, only its bearer gets more than the status.
 */
export function healthRoute(app: FastifyInstance, engine: Engine, mayKnow: (request: FastifyRequest) => boolean): void {
  app.get('/health', async (request, reply) => {
    reply.header('cache-control', 'no-store');
    try {
      const stats = await engine.stats();
      return mayKnow(request) ? { status: 'ok', engine: engine.info, stats } : { status: 'ok' };
    } catch (error) {
      request.log.error({ err: error }, 'the engine gave no stats');
      reply.code(503);
      return mayKnow(request) ? { status: 'failed', message: messageOf(error) } : { status: 'failed' };
    }
  });
}
