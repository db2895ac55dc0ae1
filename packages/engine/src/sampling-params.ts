import { z } from 'zod';

const tokenId = z.int().nonnegative();
// Half a surrogate pair can never match: generated text consists of whole code points.
const stopString = z
  .string()
  .min(1)
  .refine((text) => !/\p{Surrogate}/u.test(text), 'must not hold half a surrogate pair');

/** How the next token is chosen and when an answer ends. */
export const SamplingParams = z.strictObject({
  temperature: z.number().min(0).max(100).default(1).describe('Divides the logits; 0 always takes the likeliest token.'),
  topK: z.int().nonnegative().default(0).describe('Keep this many of the likeliest tokens; 0 keeps all.'),
  topP: z.number().min(0).max(1).default(1).describe('Keep the likeliest tokens whose probabilities together reach this.'),
  minP: z.number().min(0).max(1).default(0).describe('Keep tokens at least this fraction as likely as the likeliest.'),
  seed: z.int().exactOptional().describe('Same seed, same tokens. Default: a random one for each request.'),
  maxTokens: z.int().positive().exactOptional().describe('Longest answer in tokens. Default: the rest of the context.'),
  stop: z.array(stopString).max(16).default([]).describe('Strings that end the answer; they are not part of it.'),
  stopTokenIds: z.array(tokenId).default([]).describe('Tokens that end the answer, in addition to those of the model.'),
  ignoreEos: z.boolean().default(false).describe("Go on after the model's own end token."),
  frequencyPenalty: z
    .number()
    .min(-2)
    .max(2)
    .default(0)
    .describe('Subtracted from a logit for each occurrence of the token in the answer.'),
  presencePenalty: z.number().min(-2).max(2).default(0).describe('Subtracted once from a logit if the answer has the token.'),
  repetitionPenalty: z
    .number()
    .positive()
    .max(100)
    .default(1)
    .describe('Divides a positive logit, multiplies a negative one, of tokens in prompt or answer.'),
  logitBias: z
    .record(z.string().regex(/^\d+$/, 'must be a token id'), z.number().min(-100).max(100))
    .default({})
    .describe('Added to the logits of these token ids.'),
  logprobs: z
    .int()
    .min(0)
    .max(20)
    .exactOptional()
    .describe('Report the log-probabilities of the chosen token and of this many likeliest tokens.'),
});
export type SamplingParams = z.output<typeof SamplingParams>;
