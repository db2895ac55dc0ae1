import { GraftError } from '@graft/common';
import type { Engine } from '@graft/engine';
import type { FastifyInstance } from 'fastify';
import { z } from 'zod';
import { ApiError, parseWith } from '../openai/errors.ts';
import type { RunningRequests } from '../running-requests.ts';

const ReloadCall = z.strictObject({ model: z.string().min(1) });

/**
 * POST /admin/reload `{"model": "PATH"}` serves other weights: a checkpoint of the same config on the server's disk. The answer is the engine's report, sent
 * once they serve. A client that goes away aborts the reload, and the old weights serve on. `secure` asks for the key.
 */
export function reloadRoute(app: FastifyInstance, engine: Engine, running: RunningRequests): void {
  app.post('/admin/reload', async (request, reply) => {
    const { model } = parseWith(ReloadCall, request.body);
    using reload = running.start(reply);
    try {
      const report = await engine.reloadWeights(model, { signal: reload.signal });
      request.log.info({ report }, 'other weights are served');
      return { object: 'reload', ...report };
    } catch (error) {
      if (reload.clientGone) return reply.hijack();
      throw GraftError.is(error) ? toReloadError(error) : error;
    }
  });
}

/** The caller can fix the checkpoint that it named, so such errors say where. Other errors go the usual way. */
function toReloadError(error: GraftError): GraftError {
  const { what, where, fix } = error;
  const message = [what, ...(where === undefined ? [] : [`Where: ${where}.`]), ...(fix === undefined ? [] : [fix])].join(' ');
  if (error.code === 'GRAFT_RELOAD_BUSY') return new ApiError({ status: 409, message, code: 'reload_busy', cause: error });
  if (!/^GRAFT_(CHECKPOINT|GGUF|CONFIG|ROPE|RELOAD_CONFIG|WARM_UP)/.test(error.code)) return error;
  return new ApiError({ status: 400, message, param: 'model', code: 'invalid_checkpoint', cause: error });
}
