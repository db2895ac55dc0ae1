// llama.cpp through node-llama-cpp, from the folder that peers.bench.mjs installed it.
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { serveContender, threadsText } from './contender.mjs';

const [folder, version] = process.argv.slice(2);
const entry = join(folder, 'node_modules', 'node-llama-cpp', 'dist', 'index.js');
const { getLlama, LlamaLogLevel } = await import(pathToFileURL(entry).href);

serveContender(async ({ model: modelPath, threads, flashAttention, contextTokens, streams }) => {
  // Its default of 4 threads gives 0.3 tokens/s on 2 cores; `min` keeps it from choosing fewer than asked.
  const llama = await getLlama({ gpu: false, build: 'never', skipDownload: true, maxThreads: threads, logLevel: LlamaLogLevel.error });
  const model = await llama.loadModel({ modelPath });
  const contextOf = (sequences) =>
    model.createContext({
      contextSize: contextTokens,
      sequences,
      batchSize: 512,
      flashAttention,
      threads: { ideal: threads, min: threads },
    });
  const context = await contextOf(1);
  const sequence = context.getSequence();
  const parallel = streams > 1 ? await contextOf(streams) : null;
  const parallelSequences = Array.from({ length: parallel === null ? 0 : streams }, () => parallel.getSequence());
  return {
    description: `node-llama-cpp ${version}, ${threadsText(threads)}, flash attention ${context.flashAttention ? 'on' : 'off'}`,
    async *generate(tokenIds, count, stream) {
      const used = stream === undefined ? sequence : parallelSequences[stream];
      await used.clearHistory();
      let left = count;
      for await (const _ of used.evaluate(tokenIds, { temperature: 0, yieldEogToken: true })) {
        yield 1;
        left -= 1;
        if (left === 0) return;
      }
    },
    close: () => llama.dispose(),
  };
});
