import type { Checkpoint } from '@graft/core-model';
import { expectParts } from '../call-plugin.ts';
import { type ChatTemplate, chatTemplateFromGguf, readChatTemplate } from './chat-template.ts';
import { type GgufMetadata, tokenizerFromGguf } from './gguf-tokenizer.ts';
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
  {
    name: 'gguf',
    open: ({ kind, path, metadata }) => (kind === 'gguf' && hasVocabulary(metadata!) ? tokenizerFromGguf(metadata!, path) : null),
  },
];

/** `none` and `no_vocab` are what converters write for a model whose tokenizer they leave out. */
function hasVocabulary(metadata: GgufMetadata): boolean {
  return !['none', 'no_vocab', undefined].includes(metadata.get('tokenizer.ggml.model') as string | undefined);
}

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
