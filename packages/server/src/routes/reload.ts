import { GraftError } from '@graft/common';
import type { Engine } from '@graft/engine';
import type { FastifyInstance } from 'fastify';
import { z } from 'zod';
import { ApiError, fromZodError } from '../openai/errors.ts';
import type { RunningRequests } from '../running-requests.ts';

const ReloadCall = z.strictObject({ model: z.string().min(1) });

/**
 * POST /admin/reload `{"model": "PATH"}`: serves the weights of a checkpoint on the server's disk, of the same config. It answers when they serve, with the
 * engine's report; a client that goes away ends the reload, and the old weights serve on. `secure` asks for the key.
 */
export function reloadRoute(app: FastifyInstance, engine: Engine, running: RunningRequests): void {
  app.post('/admin/reload', async (request, reply) => {
    const parsed = ReloadCall.safeParse(request.body);
    if (!parsed.success) throw fromZodError(parsed.error);
    using reload = running.start(reply);
    try {
      const report = await engine.reloadWeights(parsed.data.model, { signal: reload.signal });
      request.log.info({ report }, 'other weights are served');
      return { object: 'reload', ...report };
    } catch (error) {
      if (reload.clientGone) return reply.hijack();
      throw GraftError.is(error) ? toReloadError(error) : error;
    }
  });
}

/** What is wrong with the checkpoint that was named is the caller's to mend, and said with its place; all else goes the usual way. */
function toReloadError(error: GraftError): GraftError {
  if (error.code === 'GRAFT_RELOAD_BUSY') {
    return new ApiError({ status: 409, message: wordsOf(error), code: 'reload_busy', cause: error });
  }
  if (!/^GRAFT_(CHECKPOINT|GGUF|CONFIG|ROPE|RELOAD_CONFIG|WARM_UP)/.test(error.code)) return error;
  return new ApiError({ status: 400, message: wordsOf(error), param: 'model', code: 'invalid_checkpoint', cause: error });
}

function wordsOf({ what, where, fix }: GraftError): string {
  return [what, where === undefined ? undefined : `Where: ${where}.`, fix].filter((line) => line !== undefined).join(' ');
}
