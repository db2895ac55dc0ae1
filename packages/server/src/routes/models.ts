import type { Engine, EngineInfo } from '@graft/engine';
import type { FastifyInstance } from 'fastify';
import { modelNotFound } from './generation.ts';

/** GET /v1/models and /v1/models/:id (an id may hold slashes). */
export function modelsRoutes(app: FastifyInstance, engine: Engine): void {
  const { info } = engine;
  const model = {
    id: info.model,
    object: 'model',
    created: Math.floor(info.createdAt),
    owned_by: 'graft',
    max_model_len: info.maxModelLength,
    generation_config: generationConfigOf(info),
    served_by: servedBy(info),
  };
  app.get('/v1/models', () => ({ object: 'list', data: [model] }));
  app.get<{ Params: { '*': string } }>('/v1/models/*', (request) => {
    if (request.params['*'] !== info.model) throw modelNotFound(request.params['*'], info.model);
    return model;
  });
}

/** The defaults of a request in the words of the model's generation_config.json. */
function generationConfigOf({ generationDefaults: { sampling, eosTokenIds } }: EngineInfo): object {
  const snake = (key: string): string => key.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
  const named = Object.entries(sampling).map(([key, value]) => [snake(key), value]);
  return { ...Object.fromEntries(named), ...(eosTokenIds.length > 0 && { eos_token_id: eosTokenIds }) };
}

/** The serving classes that are not upstream's, each with the number of instances that it replaced. */
function servedBy({ architecture, modelClass, platform, resolution }: EngineInfo) {
  const overrides = [{ name: architecture, candidates: resolution.candidates }, ...resolution.layers].flatMap(({ name, candidates }) =>
    candidates.flatMap(({ plugin, className, replaced }) =>
      replaced !== null && replaced.count > 0 ? [{ of: name, plugin, class: className, instances: replaced.count }] : [],
    ),
  );
  return { architecture, class: modelClass, platform, overrides };
}
