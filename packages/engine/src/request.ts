import { z } from 'zod';

/** One message of a chat, in OpenAI's form; content parts other than text are refused until images are served. */
export const ChatMessage = z.object({
  role: z.string().min(1),
  content: z.union([z.string(), z.array(z.object({ type: z.literal('text'), text: z.string() })), z.null()]),
  name: z.string().exactOptional(),
});
export type ChatMessage = z.output<typeof ChatMessage>;

/** What to continue: text, token ids, or a chat that the model's template renders. */
export const Prompt = z.union([
  z.strictObject({ text: z.string() }),
  z.strictObject({ tokenIds: z.array(z.int().nonnegative()).min(1) }),
  z.strictObject({ messages: z.array(ChatMessage).min(1) }),
]);
export type Prompt = z.output<typeof Prompt>;

/** How the next token is chosen and when to stop; OpenAI's meanings, with vLLM's extensions. */
export const SamplingParams = z.strictObject({
  maxTokens: z.int().positive().exactOptional().describe('Most tokens to generate. Default: all that the context still holds.'),
  temperature: z.number().min(0).max(2).default(1).describe('0 is greedy.'),
  topP: z.number().gt(0).max(1).default(1),
  topK: z.int().nonnegative().default(0).describe('0 keeps all tokens.'),
  minP: z.number().min(0).max(1).default(0),
  seed: z.int().exactOptional(),
  stop: z.array(z.string().min(1)).max(16).default([]),
  stopTokenIds: z.array(z.int().nonnegative()).default([]),
  ignoreEos: z.boolean().default(false),
  frequencyPenalty: z.number().min(-2).max(2).default(0),
  presencePenalty: z.number().min(-2).max(2).default(0),
  repetitionPenalty: z.number().gt(0).max(2).default(1),
  logitBias: z.record(z.string().regex(/^\d+$/), z.number().min(-100).max(100)).default({}),
  logprobs: z.int().min(0).max(20).exactOptional().describe('Log-probabilities of the chosen token and of this many likeliest ones.'),
});
export type SamplingParams = z.output<typeof SamplingParams>;

/** A request as it crosses the worker boundary. */
export const GenerateRequest = z.strictObject({
  requestId: z.string().exactOptional(),
  prompt: Prompt,
  sampling: SamplingParams.prefault({}),
});
export type GenerateRequest = z.input<typeof GenerateRequest>;

export type FinishReason = 'stop' | 'length';

export interface TokenLogprob {
  tokenId: number;
  /** The token's own text; may be a part of a character. */
  token: string;
  logprob: number;
  top: { tokenId: number; token: string; logprob: number }[];
}

/** A piece of the answer. The last one of a stream, and only it, has a `finishReason`. */
export interface TokenDelta {
  /** Safe to show: no half of a character, no beginning of a stop string. May be empty. */
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
