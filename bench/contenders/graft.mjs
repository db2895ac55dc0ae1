// This repository's engine, as an embedder uses it: the built package, in its worker.
import { dirname } from 'node:path';
import { fileURLToPath } from 'node:url';
import { startEngineWorker } from '@graft/engine';
import { readAs } from '../default-model.mjs';
import { serveContender, threadsText } from './contender.mjs';

const app = dirname(dirname(dirname(fileURLToPath(import.meta.url)))); // from where the plugin is found

serveContender(async ({ model, threads, contextTokens }) => {
  const engine = await startEngineWorker({
    model,
    ...readAs(model),
    threads,
    app,
    plugins: ['@graft/cpu'],
    platform: 'cpu',
    maxSequences: 1,
    maxModelLength: contextTokens,
  });
  return {
    description: `graft (weights ${engine.info.weights}), ${threadsText(threads)}`,
    async *generate(tokenIds, count) {
      const request = { prompt: { tokenIds }, sampling: { maxTokens: count, temperature: 0, ignoreEos: true } };
      for await (const delta of engine.generate(request)) yield delta.tokenIds.length;
    },
    close: () => engine.close(),
  };
});
