// The server's API, and its failures in words.

/** A failure to show: `title` says what happened, `message` says why and what to do. */
export class Failure extends Error {
  constructor(title, message, { code = null, retry = true } = {}) {
    super(message);
    this.title = title;
    this.code = code;
    this.retry = retry;
  }
}

export async function getHealth({ apiKey }) {
  const response = await request('/health', { headers: authorization(apiKey) });
  return await response.json();
}

/**
 * Streams one answer. Yields `{ text }` as it comes, and at the end `{ finishReason, usage }`.
 * @throws Failure; the signal's reason when it is aborted.
 */
export async function* streamAnswer({ messages, settings, model, signal }) {
  const response = await request('/v1/chat/completions', {
    method: 'POST',
    signal,
    headers: { 'content-type': 'application/json', ...authorization(settings.apiKey) },
    body: JSON.stringify({
      model,
      messages,
      stream: true,
      stream_options: { include_usage: true },
      temperature: settings.temperature,
      ...(settings.maxTokens === null ? {} : { max_tokens: settings.maxTokens }),
      ...(settings.seed === null ? {} : { seed: settings.seed }),
    }),
  });
  if (!response.ok) throw await failureOf(response);
  let finishReason = null;
  for await (const event of events(response.body, signal)) {
    if (event.error) throw inWords(response.status, event.error);
    const choice = event.choices?.[0];
    finishReason = choice?.finish_reason ?? finishReason;
    if (choice?.delta?.content) yield { text: choice.delta.content };
    if (event.usage) yield { finishReason, usage: event.usage };
  }
}

function authorization(apiKey) {
  return apiKey ? { authorization: `Bearer ${apiKey}` } : {};
}

async function request(url, init) {
  try {
    return await fetch(url, init);
  } catch (error) {
    if (init.signal?.aborted) throw error;
    throw unreachable();
  }
}

function unreachable() {
  return new Failure('The server does not answer.', 'Is it still running? Start it again, then retry.', { code: 'unreachable' });
}

/** Server-sent events as objects, until `[DONE]`. A stream that ends without it was cut off. */
async function* events(body, signal) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = '';
  try {
    for (;;) {
      const { done, value } = await reader.read().catch((error) => {
        if (signal.aborted) throw error;
        throw cutOff();
      });
      if (done) throw cutOff();
      const blocks = (rest + value).split('\n\n');
      rest = blocks.pop();
      for (const block of blocks) {
        const line = block.split('\n').find((one) => one.startsWith('data: '));
        if (line === undefined) continue;
        if (line === 'data: [DONE]') return;
        yield JSON.parse(line.slice(6));
      }
    }
  } finally {
    reader.cancel().catch(() => undefined);
  }
}

function cutOff() {
  return new Failure('The answer was cut off.', 'The connection to the server ended in the middle of the answer.', { code: 'cut_off' });
}

async function failureOf(response) {
  const body = await response.json().catch(() => null);
  return inWords(response.status, body?.error ?? { message: `The server answered with status ${response.status}.`, code: null });
}

const titles = {
  context_length_exceeded: 'This conversation is longer than the model can hold.',
  invalid_api_key: 'The server asks for an API key.',
  model_not_found: 'The server now serves another model.',
  shutting_down: 'The server is shutting down.',
  engine_closed: 'The model has stopped.',
};

const advice = {
  context_length_exceeded: 'Start a new chat, or edit an earlier message to go on from there.',
  invalid_api_key: 'Enter it in the settings, then retry.',
  model_not_found: 'Reload the page, then retry.',
};

function inWords(status, { message, code }) {
  const title = titles[code] ?? (status >= 500 ? 'The server met an error.' : 'The server did not accept the message.');
  return new Failure(title, [message, advice[code]].filter(Boolean).join(' '), { code, retry: code !== 'context_length_exceeded' });
}
