import type { FastifyInstance } from 'fastify';
import type { Metrics } from '../metrics.ts';

/** GET /metrics, for Prometheus. `secure` asks for the key: what is served, and how much, is for whoever runs the server. */
export function metricsRoute(app: FastifyInstance, metrics: Metrics): void {
  app.get('/metrics', async (_request, reply) => {
    reply.header('cache-control', 'no-store').type(metrics.contentType);
    return metrics.page();
  });
}
