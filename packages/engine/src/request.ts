import { z } from 'zod';
import { SamplingParams } from './sampling-params.ts';

/** The bytes of an image's file: PNG, JPEG, WebP or GIF. */
const ImageFile = z.custom<Uint8Array>((value) => value instanceof Uint8Array, 'Invalid input: expected the bytes of a file');

/** A part of a message: text, or an image in that place. */
const ContentPart = z.discriminatedUnion('type', [
  z.object({ type: z.literal('text'), text: z.string() }),
  z.object({ type: z.literal('image'), data: ImageFile }),
]);

/** One message of a chat. Other keys (`name`, `tool_calls`, `tool_call_id`, `reasoning_content`) reach the template unchanged. */
export const ChatMessage = z.looseObject({
  role: z.string().min(1),
  content: z.union([z.string(), z.array(ContentPart)]).nullish(),
});
export type ChatMessage = z.output<typeof ChatMessage>;

/** An image of a prompt of token ids: a file, or processed tiles, `[tiles, channels, side, side]`. */
const PromptImage = z.union([
  ImageFile,
  z.strictObject({
    pixelValues: z.custom<Float32Array>((value) => value instanceof Float32Array, 'Invalid input: expected a Float32Array'),
    tiles: z.int().positive(),
  }),
]);
export type PromptImage = z.output<typeof PromptImage>;

/** The inputs of a chat's template other than the messages. */
const templateOptions = {
  tools: z.array(z.unknown()).exactOptional().describe("Tools in OpenAI's form."),
  documents: z.array(z.record(z.string(), z.unknown())).exactOptional().describe('Sources for the answer, for templates that read them.'),
  variables: z.record(z.string(), z.unknown()).exactOptional().describe('More variables of the template, such as enable_thinking.'),
  template: z
    .string()
    .exactOptional()
    .describe("One of the model's templates. Default: tool_use with tools where the model has it, else default."),
  addGenerationPrompt: z
    .boolean()
    .exactOptional()
    .describe("Whether the prompt ends with the start of the assistant's message. Default: true."),
};

const addSpecialTokens = z
  .boolean()
  .exactOptional()
  .describe(
    'Whether to add the beginning and end tokens of the model. Default: true for text, false for a chat, whose template writes them.',
  );

/** The prompt: text, token ids, or a chat for the model's template. Token ids contain the config's `image_token_index` once for each token of an image. */
export const Prompt = z.union([
  z.strictObject({ text: z.string(), addSpecialTokens }),
  z.strictObject({ tokenIds: z.array(z.int().nonnegative()).min(1), images: z.array(PromptImage).exactOptional() }),
  z.strictObject({ messages: z.array(ChatMessage).min(1), addSpecialTokens, ...templateOptions }),
]);
export type Prompt = z.output<typeof Prompt>;

/** A request as it crosses the worker boundary. */
export const GenerateRequest = z.strictObject({
  prompt: Prompt,
  sampling: SamplingParams.prefault({}),
});
export type GenerateRequest = z.input<typeof GenerateRequest>;

export type FinishReason = 'stop' | 'length';

export interface TokenLogprob {
  tokenId: number;
  /** The token's text, possibly part of a character. */
  token: string;
  logprob: number;
  top: { tokenId: number; token: string; logprob: number }[];
}

/** A piece of the answer. Only the last one has a `finishReason`. */
export interface TokenDelta {
  /** Safe to show: never half a character or the beginning of a stop string. May be empty. */
  text: string;
  tokenIds: number[];
  logprobs?: TokenLogprob[];
  finishReason: FinishReason | null;
  /** The stop string or stop token id that matched. */
  stopReason: string | number | null;
  usage: { promptTokens: number; completionTokens: number };
  /** On the last delta: times since the request was taken, in ms. */
  timing?: { queuedMs: number; firstTokenMs: number; totalMs: number };
}
