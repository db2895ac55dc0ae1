import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import { graftError } from '@graft/common';
import type { Checkpoint } from '@graft/core-model';
import { z } from 'zod';
import { parseAs, readJsonFile } from './json-file.ts';
import { SamplingParams } from './sampling-params.ts';

/** The model's generation_config.json, or the path that `generationConfig` names, is wrong. */
export class GenerationConfigError extends graftError('GRAFT_GENERATION_CONFIG', (what: string, where: string) => ({
  what,
  where,
  fix: 'correct the file, or start with --generation-config none.',
})) {}

/** The keys of generation_config.json that are read, as `transformers.GenerationConfig` documents them. A key that is null is left out. */
const GenerationFile = z.looseObject({
  temperature: SamplingParams.shape.temperature.unwrap().nullish(),
  top_p: SamplingParams.shape.topP.unwrap().nullish(),
  top_k: z.int().min(-1).nullish(),
  min_p: SamplingParams.shape.minP.unwrap().nullish(),
  repetition_penalty: SamplingParams.shape.repetitionPenalty.unwrap().nullish(),
  eos_token_id: z.union([z.int(), z.array(z.int())]).nullish(),
});

/** The values of the keys that a request leaves out. */
export interface GenerationDefaults {
  readonly sampling: Readonly<Partial<Pick<SamplingParams, 'temperature' | 'topP' | 'topK' | 'minP' | 'repetitionPenalty'>>>;
  /** End tokens in addition to those of tokenizer and config. */
  readonly eosTokenIds: readonly number[];
}

/** The keys of generation_config.json in a GGUF. */
const ggufKeys = {
  temperature: 'general.sampling.temp',
  top_p: 'general.sampling.top_p',
  top_k: 'general.sampling.top_k',
  min_p: 'general.sampling.min_p',
  repetition_penalty: 'general.sampling.penalty_repeat',
} as const;

/**
 * The defaults of a model's requests.
 * @param source `auto`: generation_config.json of the model's folder, or `general.sampling.*` of a GGUF; `none`: no defaults; else a file or folder.
 * @throws GenerationConfigError
 */
export async function readGenerationDefaults({ path, kind, metadata }: Checkpoint, source: string): Promise<GenerationDefaults> {
  if (source === 'none' || source === 'vllm') return { sampling: {}, eosTokenIds: [] };
  if (source === 'auto' && kind === 'gguf') {
    const values = Object.entries(ggufKeys).map(([key, ggufKey]) => [key, plain(metadata!.get(ggufKey))] as const);
    return defaultsOf(parseAs(GenerationFile, Object.fromEntries(values), `${path}, keys general.sampling.*`, refuse));
  }
  const given = source === 'auto' ? path : source;
  const file = source === 'auto' || (await isFolder(given)) ? join(given, 'generation_config.json') : given;
  const read = await readJsonFile(file, GenerationFile, refuse);
  if (read === null && source !== 'auto') throw new GenerationConfigError('The file does not exist.', file);
  return defaultsOf(read ?? {});
}

const refuse = (what: string, where: string) => new GenerationConfigError(what, where);

/** A GGUF's integers may be bigints. */
const plain = (value: unknown): unknown => (typeof value === 'bigint' ? Number(value) : value);

async function isFolder(path: string): Promise<boolean> {
  return (await stat(path).catch(() => null))?.isDirectory() === true;
}

function defaultsOf({
  temperature,
  top_p: topP,
  top_k: topK,
  min_p: minP,
  repetition_penalty: repetitionPenalty,
  ...file
}: z.output<typeof GenerationFile>) {
  const sampling = { temperature, topP, topK: topK && Math.max(0, topK), minP, repetitionPenalty };
  const given = Object.entries(sampling).filter(([, value]) => value !== undefined && value !== null);
  return { sampling: Object.fromEntries(given), eosTokenIds: [file.eos_token_id ?? []].flat() };
}
