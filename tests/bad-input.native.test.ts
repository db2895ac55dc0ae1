// What users bring from outside may be damaged or lie: each case ends in one clear error, and the process goes on.
import { cpSync, readFileSync, renameSync, rmSync, truncateSync, writeFileSync } from 'node:fs';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { LlmEngine, startEngineWorker } from '@graft/engine';
import { createApp } from '@graft/server';
import { beforeAll, describe, expect, test } from 'vitest';
import {
  f32,
  ggufBytes,
  ggufKey,
  ggufString,
  llamaKeys,
  safetensorsBytes,
  u64,
} from '../packages/core-model/src/weights/checkpoint-files.fixture.ts';
import {
  caseFolder,
  failureOf,
  folderWithTokenizer,
  generateIds,
  promptOf,
  request,
  temporaryFolder,
  tinyConfig,
} from '../packages/engine/src/engine.fixture.ts';

const onCpu = (model: string) => tinyConfig({ model, plugins: ['@graft/cpu'], platform: 'cpu', threads: 1 });
const oneToken = request(promptOf(4), { maxTokens: 1 });

type Json = Record<string, unknown>;
type Header = Record<string, { dtype: string; shape: number[]; data_offsets: number[] }>;

/** Changes the header of model.safetensors; its data stay. */
function changeHeader(folder: string, change: (header: Header) => Header | string): void {
  const file = join(folder, 'model.safetensors');
  const bytes = readFileSync(file);
  const end = 8 + Number(bytes.readBigUInt64LE(0));
  const changed = change(JSON.parse(bytes.toString('utf8', 8, end)) as Header);
  writeFileSync(file, safetensorsBytes(typeof changed === 'string' ? changed : JSON.stringify(changed), bytes.subarray(end)));
}

const entry = (key: string, change: Partial<Header[string]>) => (folder: string) =>
  changeHeader(folder, (header) => ({ ...header, [key]: { ...header[key]!, ...change } }));

const config = (change: Json) => (folder: string) => {
  const file = join(folder, 'config.json');
  writeFileSync(file, JSON.stringify({ ...(JSON.parse(readFileSync(file, 'utf8')) as Json), ...change }));
};

const file = (name: string, text: string | Uint8Array) => (folder: string) => writeFileSync(join(folder, name), text);
const gguf = (bytes: Uint8Array) => (folder: string) => {
  writeFileSync(join(folder, 'model.gguf'), bytes);
  return join(folder, 'model.gguf');
};

const shards = (weightMap: Json) => (folder: string) => {
  renameSync(join(folder, 'model.safetensors'), join(folder, 'a.safetensors'));
  writeFileSync(join(folder, 'model.safetensors.index.json'), JSON.stringify({ weight_map: weightMap }));
};

const row = new Uint8Array(128);
const tensor = { name: 'token_embd.weight', dims: [32, 1], type: 0, data: row };
const norm = 'model.norm.weight';
const [corrupt, contradiction, unsupported] = ['GRAFT_CHECKPOINT_CORRUPT', 'GRAFT_CONFIG_CONTRADICTION', 'GRAFT_GGUF_UNSUPPORTED'];

/** What is done to a copy of dense-tiny, the error's code, and what its text must name beside the folder or file. */
const files: [name: string, damage: (folder: string) => unknown, code: string, words: string[]][] = [
  [
    'a file cut in its data',
    (folder) => truncateSync(join(folder, 'model.safetensors'), 20_000),
    corrupt,
    ['model.safetensors', 'data_offsets', '12152 bytes'],
  ],
  [
    'a file cut in its header',
    (folder) => truncateSync(join(folder, 'model.safetensors'), 500),
    corrupt,
    ['model.safetensors', '7840 bytes'],
  ],
  ['an empty file', file('model.safetensors', ''), corrupt, ['model.safetensors', '0 bytes']],
  ['a header that is a web page', file('model.safetensors', '<html>404 not found</html>'), corrupt, ['model.safetensors', 'HTML page']],
  ['offsets past the end', entry(norm, { data_offsets: [0, 1e12] }), corrupt, [norm, '[0, 1000000000000]']],
  ['offsets that are no numbers', entry(norm, { data_offsets: [-1, 63] }), corrupt, [norm, '[-1, 63]']],
  ['dims whose product overflows', entry(norm, { shape: [2 ** 40, 2 ** 40] }), corrupt, [norm, '1099511627776']],
  [
    'a name that occurs twice',
    (folder) => changeHeader(folder, (header) => JSON.stringify(header).replace('{', `{"${norm}":${JSON.stringify(header[norm])},`)),
    corrupt,
    [`"${norm}"`, 'twice'],
  ],
  [
    'a tensor named __proto__',
    (folder) =>
      changeHeader(folder, (header) =>
        JSON.stringify(header).replace('{', '{"__proto__":{"dtype":"F32","shape":[0],"data_offsets":[0,0]},'),
      ),
    'GRAFT_CHECKPOINT_UNEXPECTED_TENSOR',
    ['"__proto__"'],
  ],
  ['an unknown dtype', entry(norm, { dtype: 'F4' }), 'GRAFT_CHECKPOINT_DTYPE', [norm, '"F4"', 'BF16']],
  ['a dtype that weights cannot have', entry(norm, { dtype: 'I16' }), 'GRAFT_CHECKPOINT_DTYPE', [norm, 'I16']],
  ['a wrong shape', entry(norm, { shape: [4, 8] }), 'GRAFT_CHECKPOINT_SHAPE_MISMATCH', [norm, '[4, 8]', '[32]']],
  [
    'a missing tensor',
    (folder) => changeHeader(folder, ({ [norm]: moved, ...header }) => ({ ...header, 'model.nrm.weight': moved! })),
    'GRAFT_CHECKPOINT_MISSING_TENSOR',
    [norm],
  ],
  ['no weights', (folder) => rmSync(join(folder, 'model.safetensors')), 'GRAFT_CHECKPOINT_NOT_FOUND', ['config.json', 'model.safetensors']],
  ['a missing shard', shards({ [norm]: 'b.safetensors' }), 'GRAFT_CHECKPOINT_NOT_FOUND', ['b.safetensors', norm]],
  [
    'a shard without the tensor that the index names',
    shards({ 'model.none.weight': 'a.safetensors' }),
    'GRAFT_CHECKPOINT_MISSING_TENSOR',
    ['a.safetensors', 'model.none.weight'],
  ],
  ['a shard outside the folder', shards({ [norm]: '../a.safetensors' }), corrupt, ['model.safetensors.index.json', '../a.safetensors']],
  ['a config that is not JSON', file('config.json', '{"vocab_size": 320,'), corrupt, ['config.json', 'JSON']],
  ['a config that is a list', file('config.json', '[]'), corrupt, ['config.json', 'object']],
  ['a config without a size', config({ hidden_size: undefined }), 'GRAFT_CONFIG_INVALID', ['hidden_size']],
  ['a size that is none', config({ vocab_size: -3 }), 'GRAFT_CONFIG_INVALID', ['vocab_size']],
  [
    'an unknown rope type',
    config({ rope_parameters: { rope_type: 'yarm' } }),
    'GRAFT_ROPE_TYPE_UNKNOWN',
    ['"yarm"', 'rope_parameters.rope_type', 'llama3'],
  ],
  [
    'a rope type without its factor',
    config({ rope_parameters: { rope_type: 'linear' } }),
    'GRAFT_CONFIG_INVALID',
    ['rope_parameters.factor'],
  ],
  [
    'an unknown architecture',
    config({ architectures: ['Lama4ForCausalLM'] }),
    'GRAFT_UNKNOWN_ARCHITECTURE',
    ['"Lama4ForCausalLM"', 'Llama4ForCausalLM'],
  ],
  ['no architecture', config({ architectures: [] }), 'GRAFT_CONFIG_INVALID', ['architectures']],
  [
    'layer types against no_rope_layers',
    config({ no_rope_layers: [1, 1, 1, 0, 1, 1, 1, 0] }),
    contradiction,
    ['layer_types[3]', 'no_rope_layers'],
  ],
  ['lists of another length than the layers', config({ num_hidden_layers: 7 }), contradiction, ['layer_types', '8', '7']],
  ['heads that do not divide', config({ num_key_value_heads: 3 }), contradiction, ['num_attention_heads 4', '3']],
  [
    'a vocabulary of another size than the weights',
    config({ vocab_size: 321 }),
    'GRAFT_CHECKPOINT_SHAPE_MISMATCH',
    ['embed_tokens', '321', '320'],
  ],
  [
    'more layers than the weights',
    config({ num_hidden_layers: 9, no_rope_layers: null, layer_types: null, no_rope_layer_interval: 100 }),
    'GRAFT_CHECKPOINT_MISSING_TENSOR',
    ['layers.8.'],
  ],
  ['a tokenizer that is not JSON', file('tokenizer.json', '{'), 'GRAFT_TOKENIZER_INVALID', ['tokenizer.json']],
  [
    'a tokenizer of another kind',
    file('tokenizer.json', '{"model":{"type":"WordPiece"}}'),
    'GRAFT_TOKENIZER_UNSUPPORTED',
    ['"WordPiece"', 'BPE'],
  ],
  ['a GGUF that is a web page', gguf(new TextEncoder().encode('<html>404: there is nothing</html>')), corrupt, ['model.gguf', 'HTML page']],
  ['a GGUF cut in its header', gguf(ggufBytes({ keys: llamaKeys(), tensors: [tensor] }).subarray(0, 300)), corrupt, ['model.gguf']],
  [
    'a GGUF cut in its data',
    gguf(ggufBytes({ keys: llamaKeys(), tensors: [tensor] }).subarray(0, -40)),
    corrupt,
    ['model.gguf', 'token_embd.weight', '128 bytes'],
  ],
  [
    'a GGUF offset past the end',
    gguf(ggufBytes({ keys: llamaKeys(), tensors: [{ ...tensor, offset: 2n ** 50n }] })),
    corrupt,
    ['token_embd.weight', '1125899906842624'],
  ],
  [
    'GGUF dims whose product overflows',
    gguf(ggufBytes({ keys: llamaKeys(), tensors: [{ ...tensor, dims: [2n ** 40n, 2n ** 40n] }] })),
    corrupt,
    ['token_embd.weight'],
  ],
  ['a GGUF with 2^60 tensors', gguf(ggufBytes({ tensorCount: 2n ** 60n })), corrupt, ['1152921504606846976']],
  [
    'a GGUF tensor that occurs twice',
    gguf(ggufBytes({ keys: llamaKeys(), tensors: [tensor, tensor] })),
    corrupt,
    ['token_embd.weight', 'twice'],
  ],
  [
    'a GGUF key that occurs twice',
    gguf(ggufBytes({ keys: [...llamaKeys(), ...llamaKeys().slice(0, 1)] })),
    corrupt,
    ['general.architecture', 'twice'],
  ],
  [
    'a GGUF key named __proto__ in place of one that it needs',
    gguf(ggufBytes({ keys: [ggufKey('__proto__', 8, ggufString('llama'))], tensors: [tensor] })),
    'GRAFT_UNKNOWN_GGUF',
    ['null', '"llama"'],
  ],
  [
    'a GGUF of another architecture',
    gguf(ggufBytes({ keys: [ggufKey('general.architecture', 8, ggufString('mamba'))], tensors: [tensor] })),
    'GRAFT_UNKNOWN_GGUF',
    ['"mamba"', '"llama"'],
  ],
  [
    'a GGUF of an unknown quantisation',
    gguf(ggufBytes({ keys: llamaKeys(), tensors: [{ ...tensor, type: 77 }] })),
    unsupported,
    ['token_embd.weight', 'type 77'],
  ],
  [
    'a GGUF with an unknown rope scaling',
    gguf(ggufBytes({ keys: [...llamaKeys(), ggufKey('llama.rope.scaling.type', 8, ggufString('yarm'))], tensors: [tensor] })),
    unsupported,
    ['"yarm"', 'llama.rope.scaling.type'],
  ],
  [
    'a GGUF that lacks a size',
    gguf(ggufBytes({ keys: llamaKeys().filter((_, i) => i !== 1), tensors: [tensor] })),
    corrupt,
    ['llama.block_count', 'missing'],
  ],
  [
    'a GGUF number that is none',
    gguf(ggufBytes({ keys: [...llamaKeys().slice(0, -1), ggufKey('llama.rope.dimension_count', 6, f32(Number.NaN))], tensors: [tensor] })),
    corrupt,
    ['llama.rope.dimension_count', 'NaN'],
  ],
  [
    'a GGUF whose tokenizer has no tokens',
    gguf(ggufBytes({ keys: [...llamaKeys(), ggufKey('tokenizer.ggml.model', 8, ggufString('gpt2'))], tensors: [tensor] })),
    'GRAFT_TOKENIZER_INVALID',
    ['tokenizer.ggml.tokens', 'missing'],
  ],
  [
    'a GGUF string longer than the file',
    gguf(ggufBytes({ keyCount: 1n, keys: [u64(2n ** 40n), new Uint8Array(32)] })),
    corrupt,
    ['1099511627776'],
  ],
];

describe('a checkpoint', () => {
  let serving: LlmEngine;
  beforeAll(async () => {
    serving = await LlmEngine.start(onCpu(caseFolder('dense-tiny')));
    return () => serving.close();
  });

  function damaged(damage: (folder: string) => unknown): { folder: string; model: string } {
    const folder = temporaryFolder();
    cpSync(caseFolder('dense-tiny'), folder, { recursive: true });
    const made = damage(folder);
    return { folder, model: typeof made === 'string' ? made : folder };
  }

  test.each(files)('with %s ends in one clear error, and the engine beside it goes on', async (_, damage, code, words) => {
    const { folder, model } = damaged(damage);
    const error = await failureOf(LlmEngine.start(onCpu(model)));
    expect(error.code).toBe(code);
    // The registry knows names and plugins, and no files.
    const named = code === 'GRAFT_UNKNOWN_ARCHITECTURE' ? words : [folder, ...words];
    for (const word of named) expect(error.message).toContain(word);
    expect(error.fix).toBeTruthy();
    expect(await generateIds(serving, oneToken)).toHaveLength(1);
  });

  test('that is damaged ends a worker in the same error, and a good one then serves', async () => {
    const some = ['a file cut in its data', 'a missing shard', 'an unknown rope type', 'a GGUF tensor that occurs twice'];
    for (const [, damage, code] of files.filter(([name]) => some.includes(name))) {
      const { folder, model } = damaged(damage);
      const error = await failureOf(startEngineWorker(onCpu(model)));
      expect(error.code).toBe(code);
      expect(error.message).toContain(folder);
    }
    const engine = await startEngineWorker(onCpu(caseFolder('dense-tiny')));
    const deltas = engine.generate(oneToken);
    expect((await deltas.next()).value).toMatchObject({ finishReason: 'length' });
    await engine.close();
  });
});

const chat = (more: Json = {}): string => JSON.stringify({ messages: [{ role: 'user', content: 'hello' }], max_tokens: 1, ...more });
const text = (more: Json = {}): string => JSON.stringify({ prompt: 'hello', max_tokens: 1, ...more });
const [chats, texts] = ['POST /v1/chat/completions', 'POST /v1/completions'];
const bigMessage = { messages: [{ role: 'user', content: 'x'.repeat(3_000_000) }] };

/** The request, the answer's status, `code` and `param`, and what its message must say. */
const requests: [
  name: string,
  route: string,
  body: string | undefined,
  status: number,
  code: string | null,
  param: string | null,
  words: RegExp,
][] = [
  ['10 MB', chats, chat({ user: 'x'.repeat(10_000_000) }), 413, 'request_too_large', null, /too large/],
  ['a list', chats, '[]', 400, 'invalid_type', null, /must be a JSON object/],
  ['null', chats, 'null', 400, 'invalid_type', null, /must be a JSON object/],
  ['a string', texts, '"hello"', 400, 'invalid_type', null, /must be a JSON object/],
  ['no body', chats, undefined, 400, 'invalid_json', null, /no body/],
  ['malformed JSON', chats, '{"messages": [', 400, 'invalid_json', null, /not valid JSON/],
  ['brackets without end', chats, '['.repeat(1_000_000), 400, 'invalid_json', null, /not valid JSON/],
  ['a key __proto__', chats, `{"__proto__": {"a": 1}, ${chat().slice(1)}`, 400, 'invalid_json', null, /not valid JSON/],
  ['an unknown model', chats, chat({ model: 'gpt-5' }), 404, 'model_not_found', 'model', /'gpt-5' is not served here; 'tiny' is/],
  ['an unknown key', chats, chat({ temprature: 0 }), 400, 'unknown_parameter', 'temprature', /Did you mean 'temperature'/],
  ['a value out of range', chats, chat({ temperature: 3 }), 400, 'invalid_value', 'temperature', /temperature/],
  ['a value of the wrong type', texts, text({ max_tokens: '1' }), 400, 'invalid_value', 'max_tokens', /max_tokens/],
  ['no messages', chats, chat({ messages: [] }), 400, 'invalid_value', 'messages', /at least one message/],
  [
    'an image',
    chats,
    chat({ messages: [{ role: 'user', content: [{ type: 'image_url', image_url: { url: 'x' } }] }] }),
    400,
    'unsupported_value',
    'messages[0].content[0].image_url',
    /reads no images/,
  ],
  [
    'a prompt longer than the context',
    texts,
    text({ prompt: promptOf(64) }),
    400,
    'context_length_exceeded',
    null,
    /64 tokens; the context holds 64/,
  ],
  [
    'a prompt longer than the context, streamed',
    texts,
    text({ prompt: promptOf(64), stream: true }),
    400,
    'context_length_exceeded',
    null,
    /64 tokens/,
  ],
  ['a chat of 3 MB of one character', chats, chat(bigMessage), 400, 'context_length_exceeded', null, /at least 64 tokens/],
  ['a token that the model lacks', texts, text({ prompt: [5, 320] }), 400, 'invalid_value', null, /Token 320 .* has 320/],
  ['a negative token', texts, text({ prompt: [5, -1] }), 400, 'invalid_value', 'prompt[1]', /prompt/],
  ['a bias for a token that the model lacks', texts, text({ logit_bias: { 320: 1 } }), 400, 'invalid_value', null, /Token 320/],
  ['an empty prompt', texts, text({ prompt: '' }), 400, 'invalid_value', null, /empty/],
  ['more choices than are served', texts, text({ n: 65 }), 400, 'invalid_value', 'n', /64/],
];

const routes: [name: string, route: string, status: number, code: string, words: RegExp][] = [
  ['an unknown route', 'GET /v1/nothing', 404, 'unknown_url', /GET \/v1\/nothing/],
  ['a route with the wrong method', 'GET /v1/completions', 405, 'method_not_allowed', /POST/],
  ['an unknown model', 'GET /v1/models/gpt-5', 404, 'model_not_found', /'tiny' is/],
  ['a path that leaves the page', 'GET /..%2f..%2fpackage.json', 404, 'unknown_url', /GET \/\.\.%2f/],
];

describe('a request over HTTP', () => {
  let origin: string;
  let engine: LlmEngine;
  beforeAll(async () => {
    engine = await LlmEngine.start({ ...onCpu(folderWithTokenizer()), servedModelName: 'tiny' });
    const app = createApp(engine);
    await app.listen({ port: 0, host: '127.0.0.1' });
    origin = `http://127.0.0.1:${(app.server.address() as AddressInfo).port}`;
    return async () => {
      await app.close();
      await engine.close();
    };
  });

  const send = (route: string, body?: string, type = 'application/json') => {
    const [method, path] = route.split(' ') as [string, string];
    const headers = method === 'POST' ? { 'content-type': type } : {};
    return fetch(`${origin}${path}`, { method, headers, ...(body !== undefined && { body }) });
  };

  async function expectRefusal(response: Response, status: number, error: Json, words: RegExp): Promise<void> {
    const body = (await response.json()) as { error: { message: string } };
    expect([response.status, body]).toMatchObject([status, { error }]);
    expect(Object.keys(body.error).sort()).toEqual(['code', 'message', 'param', 'type']);
    expect(body.error.message).toMatch(words);
    const next = await send(chats, chat());
    expect([next.status, await next.json()]).toMatchObject([200, { choices: [{ finish_reason: 'length' }] }]);
    expect(await engine.stats()).toMatchObject({ running: 0, waiting: 0, freeSlots: 3 });
  }

  test.each(requests)(
    'of %s is refused in the shape of OpenAI, and the next is served',
    async (_, route, body, status, code, param, words) => {
      await expectRefusal(await send(route, body), status, { type: 'invalid_request_error', code, param }, words);
    },
  );

  test.each(routes)('to %s is refused in the shape of OpenAI, and the next is served', async (_, route, status, code, words) => {
    await expectRefusal(await send(route), status, { type: 'invalid_request_error', code }, words);
  });

  test('of another content type is refused', async () => {
    await expectRefusal(await send(chats, chat(), 'text/plain'), 415, { code: 'unsupported_media_type' }, /application\/json/);
  });
});
