import type { Checkpoint } from '@graft/core-model';
import { expectParts } from '../call-plugin.ts';
import { type ChatTemplate, chatTemplateFromGguf, readChatTemplate } from './chat-template.ts';
import { tokenizerFromGguf } from './gguf-tokenizer.ts';
import { readTokenizer, type Tokenizer } from './tokenizer.ts';

/** Reads the tokenizer of one kind of checkpoint. */
export interface TokenizerFormat {
  readonly name: string;
  /** Null if the checkpoint has no tokenizer of this format. */
  open(checkpoint: Checkpoint): Tokenizer | null | Promise<Tokenizer | null>;
}

/** For the tokenizer.json of a folder, and for a GGUF. */
export const tokenizerFormats: readonly TokenizerFormat[] = [
  { name: 'tokenizer.json', open: ({ path }) => readTokenizer(path) },
  { name: 'gguf', open: ({ kind, path, metadata }) => (kind === 'gguf' ? tokenizerFromGguf(metadata!, path) : null) },
];

/** Tokenizer and chat template of a checkpoint. Without a tokenizer the engine takes only token ids; without a template, no chats. */
export interface ModelText {
  readonly tokenizer: Tokenizer | null;
  readonly template: ChatTemplate | null;
}

export async function openModelText(checkpoint: Checkpoint, formats: readonly TokenizerFormat[] = tokenizerFormats): Promise<ModelText> {
  const { path, kind, metadata } = checkpoint;
  let tokenizer: Tokenizer | null = null;
  for (const format of formats.toReversed()) tokenizer ??= await format.open(checkpoint);
  if (tokenizer !== null) expectParts(tokenizer, ['encode', 'decode', 'piece'], 'Tokenizers.open()', '');
  const openTemplate = () => (kind === 'gguf' ? chatTemplateFromGguf(metadata!, path) : readChatTemplate(path));
  return { tokenizer, template: tokenizer === null ? null : await openTemplate() };
}
