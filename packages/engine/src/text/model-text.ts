import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { GraftError } from '@graft/common';
import type { Checkpoint } from '@graft/core-model';
import { z } from 'zod';
import type { ChatTemplate } from './chat-template.ts';
import { chatTemplateFromGguf, readChatTemplate } from './chat-template.ts';
import { tokenizerFromGguf } from './gguf-tokenizer.ts';
import { readTokenizer, type Tokenizer } from './tokenizer.ts';
import { TokenizerInvalidError } from './tokenizer-errors.ts';

/** The text side of a checkpoint. A checkpoint without a tokenizer serves token ids only; one without a template, completions only. */
export interface ModelText {
  readonly tokenizer: Tokenizer | null;
  readonly template: ChatTemplate | null;
  /** End tokens that generation_config.json adds to those of tokenizer and config. */
  readonly eosTokenIds: readonly number[];
}

export async function openModelText({ path, kind, metadata }: Checkpoint): Promise<ModelText> {
  if (kind === 'gguf') {
    return {
      tokenizer: tokenizerFromGguf(metadata!, path),
      template: await optional(() => chatTemplateFromGguf(metadata!, path)),
      eosTokenIds: [],
    };
  }
  const hasTokenizer = existsSync(join(path, 'tokenizer.json'));
  return {
    tokenizer: hasTokenizer ? await readTokenizer(path) : null,
    template: hasTokenizer ? await optional(() => readChatTemplate(path)) : null,
    eosTokenIds: await generationConfigEos(path),
  };
}

async function optional(open: () => ChatTemplate | Promise<ChatTemplate>): Promise<ChatTemplate | null> {
  try {
    return await open();
  } catch (error) {
    if (GraftError.is(error) && error.code === 'GRAFT_CHAT_TEMPLATE_MISSING') return null;
    throw error;
  }
}

const GenerationConfig = z.looseObject({ eos_token_id: z.union([z.int(), z.array(z.int())]).nullish() });

async function generationConfigEos(folder: string): Promise<number[]> {
  const file = join(folder, 'generation_config.json');
  if (!existsSync(file)) return [];
  const parsed = GenerationConfig.safeParse(parseJson(await readFile(file, 'utf8')));
  if (!parsed.success) throw new TokenizerInvalidError('It is no JSON object with a valid "eos_token_id".', file);
  return [parsed.data.eos_token_id ?? []].flat();
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
