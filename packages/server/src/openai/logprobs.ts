import type { TokenLogprob } from '@graft/engine';

/** `logprobs` of a chat choice. */
export function chatLogprobs(tokens: readonly TokenLogprob[]) {
  return {
    content: tokens.map((one) => ({
      token: one.token,
      logprob: one.logprob,
      bytes: bytesOf(one.token),
      top_logprobs: one.top.map((top) => ({ token: top.token, logprob: top.logprob, bytes: bytesOf(top.token) })),
    })),
    refusal: null,
  };
}

/** `logprobs` of a text choice. `offset`: characters of the answer before these tokens. */
export function textLogprobs(tokens: readonly TokenLogprob[], offset: number) {
  const offsets: number[] = [];
  for (const one of tokens) {
    offsets.push(offset);
    offset += one.token.length;
  }
  return {
    tokens: tokens.map((one) => one.token),
    token_logprobs: tokens.map((one) => one.logprob),
    top_logprobs: tokens.map((one) => Object.fromEntries(one.top.map((top) => [top.token, top.logprob]))),
    text_offset: offsets,
  };
}

/** Null for a token that is a part of a character: its bytes are unknown here. */
function bytesOf(token: string): number[] | null {
  return token.includes('\uFFFD') ? null : [...Buffer.from(token, 'utf8')];
}
