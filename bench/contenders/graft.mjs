// This repository's engine, as an embedder uses it: the built package, in its worker.
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { startEngineWorker } from '@graft/engine';
import { cacheFolder, readAs } from '../default-model.mjs';
import { serveContender, threadsText } from './contender.mjs';

const app = dirname(dirname(dirname(fileURLToPath(import.meta.url)))); // from where the plugin is found

serveContender(async ({ model, threads, contextTokens, streams, backend }) => {
  const engine = await startEngineWorker({
    model,
    ...readAs(model),
    threads,
    app,
    plugins: ['@graft/cpu', '@graft/gpu'],
    platform: 'cpu',
    ...(backend !== undefined && { platformOptions: { backend } }),
    cacheDirectory: join(cacheFolder, 'weights'),
    maxSequences: streams,
    maxModelLength: contextTokens,
  });
  const { weights, backend: chosen } = engine.info;
  return {
    description: `graft (${chosen?.name}, weights ${weights}), ${threadsText(threads)}`,
    async *generate(tokenIds, count) {
      const request = { prompt: { tokenIds }, sampling: { maxTokens: count, temperature: 0, ignoreEos: true } };
      for await (const delta of engine.generate(request)) yield delta.tokenIds.length;
    },
    close: () => engine.close(),
  };
});
