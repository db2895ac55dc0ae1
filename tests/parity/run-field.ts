import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { LlmEngine } from '@graft/engine';
import { z } from 'zod';
import { argmax, logProbability, scientific } from './compare.ts';
import type { BackendChoice, CaseReport } from './run-case.ts';

const Expected = z.record(
  z.string(),
  z.strictObject({ ids: z.array(z.int()).nonempty(), next_top5: z.array(z.tuple([z.int(), z.number()])).nonempty() }),
);

/** A checkpoint, and the likeliest tokens after a prompt by the published implementation. */
export interface FieldFile {
  readonly name: string;
  readonly model: string;
  readonly ids: readonly number[];
  /** Ids with their probabilities, the likeliest first. */
  readonly top: readonly (readonly [id: number, probability: number])[];
}

/** Reads a folder's expected.json. */
export function readField(folder: string): FieldFile[] {
  const path = join(folder, 'expected.json');
  const expected = Expected.safeParse(JSON.parse(readFileSync(path, 'utf8')));
  if (!expected.success) throw new Error(`${path}: ${z.prettifyError(expected.error)}`);
  return Object.entries(expected.data).map(([name, { ids, next_top5: top }]) => ({ name, model: join(folder, name), ids, top }));
}

/** In float32: the probabilities of the likeliest tokens, and the first choice where it leads by more than twice the tolerance. */
export async function runField({ name, model, ids, top }: FieldFile, backend: BackendChoice, app: string): Promise<CaseReport> {
  const { relativeTolerance: tolerance = 1e-3 } = backend;
  const logits = await nextLogits(model, ids, backend, app);
  const probabilities = Array.from(logits, (_, id) => Math.exp(logProbability(logits, id)));
  const likeliest = probabilities.toSorted((a, b) => b - a);
  // by rank too: no other token may be likelier than these
  const difference = Math.max(...top.flatMap(([id, p], rank) => [Math.abs(probabilities[id]! - p), Math.abs(likeliest[rank]! - p)]));
  const [[first, p], [, second] = [0, 0]] = top as [[number, number], [number, number]];
  const best = argmax(logits);
  const isWrong = best !== first && p - second > 2 * tolerance;
  const passed = difference <= tolerance && !isWrong;
  const choice =
    best === first ? `first choice ${first} equal` : `first choice ${best} for ${first}, which leads by ${scientific(p - second)}`;
  const line = `${passed ? 'ok  ' : 'FAIL'} ${name} ${backend.label ?? backend.name}: probabilities ${scientific(difference)}, ${choice}`;
  return { passed, line };
}

/** The logits after a prompt, in float32. */
export async function nextLogits(model: string, ids: readonly number[], backend: BackendChoice, app: string): Promise<Float32Array> {
  const { name: platform, plugins, promptLogits = true } = backend;
  const options = { weights: 'float32', maxSequences: 1, maxModelLength: ids.length + 1, prefillTokens: 7 } as const;
  const engine = await LlmEngine.start({ model, app, plugins, platform, ...options });
  try {
    let last = new Float32Array(0);
    const observer = {
      promptLogits,
      onLogits(position: number, logits: Float32Array) {
        if (position === ids.length - 1) last = logits.slice();
      },
    };
    const request = { prompt: { tokenIds: [...ids] }, sampling: { temperature: 0, ignoreEos: true, maxTokens: 1 } };
    for await (const _ of engine.generate(request, { observer })) {
      // The observer sees what is compared.
    }
    return last;
  } finally {
    await engine.close();
  }
}
