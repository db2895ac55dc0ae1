import { type Engine, type GenerateRequest, ImageCountError, ModelReadsNoImagesError, parseImageDataUrl } from '@graft/engine';
import type { CallMessage, CallPart, CallPrompt, CompletionCall, ImagePart } from '../openai/schemas.ts';
import { fetchImage, type ImageHosts, isRemoteUrl } from './fetch-image.ts';

type Prompt = GenerateRequest['prompt'];

const timeoutMs = 10_000;

/** Nothing is fetched: only `data:` URLs are accepted. */
export const noImageHosts: ImageHosts = { allowed: [], allowPrivate: false };

/**
 * The prompts of a call with the files of their images. Model and count are checked before anything is decoded or fetched.
 * @throws ModelReadsNoImagesError, ImageCountError, ImageUrlError, the errors of `parseImageDataUrl` and `fetchImage`; the signal's reason.
 */
export async function resolveImages(
  { prompts, n }: CompletionCall,
  engine: Engine,
  hosts: ImageHosts,
  signal: AbortSignal,
): Promise<Prompt[]> {
  const images = prompts.flatMap(imagesOf);
  const [first] = images;
  if (first === undefined) return prompts as Prompt[];
  const { model, readsImages, imageLimits } = engine.info;
  if (!readsImages) throw new ModelReadsNoImagesError(model, first.where);
  // Each choice decodes them again.
  if (images.length * n > imageLimits.maxImages) throw new ImageCountError(images.length * n, imageLimits.maxImages, 'messages');
  const files = new Map<ImagePart, Uint8Array>();
  for (const image of images) files.set(image, await fileOf(image, imageLimits.maxImageBytes, hosts, signal));
  return prompts.map((prompt) =>
    'messages' in prompt ? { ...prompt, messages: prompt.messages.map((one) => withFiles(one, files)) } : prompt,
  );
}

async function fileOf({ url, where }: ImagePart, maxBytes: number, hosts: ImageHosts, signal: AbortSignal): Promise<Uint8Array> {
  if (isRemoteUrl(url)) return fetchImage(url, { ...hosts, maxBytes, timeoutMs, where, signal });
  return parseImageDataUrl(url, { maxBytes, where }).bytes;
}

function imagesOf(prompt: CallPrompt): ImagePart[] {
  if (!('messages' in prompt)) return [];
  return prompt.messages.flatMap(({ content }) => (typeof content === 'string' ? [] : content.filter(isImage)));
}

const isImage = (part: CallPart): part is ImagePart => part.type === 'image_url';

function withFiles({ content, ...message }: CallMessage, files: ReadonlyMap<ImagePart, Uint8Array>) {
  if (typeof content === 'string') return { ...message, content };
  return { ...message, content: content.map((part) => (isImage(part) ? { type: 'image' as const, data: files.get(part)! } : part)) };
}
