import type { EngineInfo } from './engine.ts';
import { InvalidRequestError, NoTokenizerError, PromptTooLongError, TokenOutOfRangeError } from './errors.ts';
import { ImageCountError, ModelReadsNoImagesError } from './image/errors.ts';
import type { ImageReader } from './image/image-reader.ts';
import type { ImageTiles, PromptImages } from './image/prompt-images.ts';
import { Permits } from './permits.ts';
import type { ChatMessage, Prompt, PromptImage } from './request.ts';
import type { ChatMessage as TemplateMessage } from './text/chat-template.ts';
import type { ModelText } from './text/model-text.ts';
import type { EncodeOptions, Tokenizer } from './text/tokenizer.ts';

export interface PromptReaderOptions {
  info: Pick<EngineInfo, 'model' | 'imageLimits' | 'maxModelLength' | 'vocabSize' | 'maxSequences'>;
  text: ModelText;
  /** Null for a text-only model. */
  images: ImageReader | null;
}

/** A prompt as the model takes it. */
export interface ReadPrompt {
  promptIds: number[];
  /** Owned by the caller. Disposing them lets the next request decode its images. */
  images: PromptImages | null;
}

/** Turns a request's prompt into token ids and its images into tiles. */
export class PromptReader {
  private readonly options: PromptReaderOptions;
  /** Requests with decoded images in memory; others wait. Tiles take a hundred times the memory of files, and the queue is unlimited. */
  private readonly permits: Permits;

  constructor(options: PromptReaderOptions) {
    this.options = options;
    this.permits = new Permits(options.info.maxSequences);
  }

  /**
   * Synchronous for a prompt without images; otherwise the image files are decoded first.
   * @throws InvalidRequestError, PromptTooLongError, TokenOutOfRangeError, NoTokenizerError, ModelReadsNoImagesError, the errors of template and images.
   */
  read(prompt: Prompt, signal?: AbortSignal): ReadPrompt | Promise<ReadPrompt> {
    const images = imagesOf(prompt);
    if (images.length === 0) return { promptIds: this.checked(this.promptIds(prompt)), images: null };
    const { images: reader, info } = this.options;
    const { model, imageLimits } = info;
    const where = 'messages' in prompt ? 'messages' : 'prompt.images';
    if (reader === null) throw new ModelReadsNoImagesError(model, where);
    if (images.length > imageLimits.maxImages) throw new ImageCountError(images.length, imageLimits.maxImages, where);
    return this.readWithImages(reader, prompt, images, signal);
  }

  /** @throws NoTokenizerError */
  get tokenizer(): Tokenizer {
    const { text, info } = this.options;
    if (text.tokenizer === null) throw new NoTokenizerError(info.model);
    return text.tokenizer;
  }

  private async readWithImages(reader: ImageReader, prompt: Prompt, images: PromptImage[], signal?: AbortSignal): Promise<ReadPrompt> {
    const permit = await this.permits.acquire(signal);
    try {
      const read = await this.decode(reader, prompt, images, signal);
      signal?.throwIfAborted();
      read.images.permit = permit;
      return read;
    } catch (error) {
      permit[Symbol.dispose]();
      throw error;
    }
  }

  private async decode(reader: ImageReader, prompt: Prompt, images: PromptImage[], signal?: AbortSignal) {
    if (!('messages' in prompt)) {
      const promptIds = this.checked(this.promptIds(prompt)); // before anything is decoded
      return { promptIds, images: reader.place(promptIds, await this.tilesOf(reader, images, signal)) };
    }
    const rendered = this.render(prompt);
    reader.checkPlaces(rendered, images.length);
    const places = placesOf(prompt.messages);
    const where = (index: number) => places[index]!;
    const processed = await reader.process(images.filter(isFile), { where, ...(signal !== undefined && { signal }) });
    const promptIds = this.checked(this.encode(reader.expand(rendered, processed), { addSpecialTokens: prompt.addSpecialTokens ?? false }));
    return { promptIds, images: reader.place(promptIds, processed) };
  }

  /** Decodes files one after another, and takes tiles unchanged. */
  private async tilesOf(reader: ImageReader, images: readonly PromptImage[], signal?: AbortSignal): Promise<ImageTiles[]> {
    const processed = await reader.process(images.filter(isFile), signal === undefined ? {} : { signal });
    let file = 0;
    return images.map((image) => (isFile(image) ? processed[file++]! : image));
  }

  private checked(promptIds: number[]): number[] {
    const { maxModelLength, vocabSize } = this.options.info;
    if (promptIds.length >= maxModelLength) throw new PromptTooLongError(promptIds.length, maxModelLength);
    const wrong = promptIds.find((id) => id >= vocabSize);
    if (wrong !== undefined) throw new TokenOutOfRangeError(wrong, vocabSize);
    return promptIds;
  }

  private promptIds(prompt: Prompt): number[] {
    if ('tokenIds' in prompt) return prompt.tokenIds;
    const { addSpecialTokens = 'text' in prompt } = prompt;
    const ids = this.encode('text' in prompt ? prompt.text : this.render(prompt), { addSpecialTokens });
    if (ids.length === 0) throw new InvalidRequestError('The prompt is empty.', 'prompt');
    return ids;
  }

  /** Encoding a very long text takes seconds and blocks all requests, so a text that cannot fit is refused first. */
  private encode(text: string, options: EncodeOptions = {}): number[] {
    const { maxModelLength } = this.options.info;
    const { tokenizer } = this;
    const least = tokenizer.leastTokens(text, maxModelLength);
    if (least >= maxModelLength) throw new PromptTooLongError(least, maxModelLength, 'at least');
    return tokenizer.encode(text, options);
  }

  private render({ messages, ...options }: ChatPrompt): string {
    const { template } = this.options.text;
    if (template === null)
      throw new InvalidRequestError('This model has no chat template.', 'messages', 'send the prompt as text to /v1/completions.');
    return template.render(template.adapt(messages.map(withoutFiles), options), options);
  }
}

type ChatPrompt = Extract<Prompt, { messages: unknown }>;

const isFile = (image: PromptImage): image is Uint8Array => image instanceof Uint8Array;

function imagesOf(prompt: Prompt): PromptImage[] {
  if ('text' in prompt) return [];
  if ('tokenIds' in prompt) return prompt.images ?? [];
  const parts = prompt.messages.flatMap(({ content }) => (Array.isArray(content) ? content : []));
  return parts.flatMap((part) => (part.type === 'image' ? [part.data] : []));
}

/** The places of the images as clients know them, e.g. `messages[0].content[1]`. */
function placesOf(messages: readonly ChatMessage[]): string[] {
  return messages.flatMap(({ content }, message) =>
    Array.isArray(content) ? content.flatMap(({ type }, part) => (type === 'image' ? [`messages[${message}].content[${part}]`] : [])) : [],
  );
}

/** Templates see the places of images, not the images. */
function withoutFiles(message: ChatMessage): TemplateMessage {
  const { content } = message;
  if (!Array.isArray(content)) return message;
  return { ...message, content: content.map((part) => (part.type === 'image' ? { type: 'image' } : part)) };
}
