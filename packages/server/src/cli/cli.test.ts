import { EventEmitter, once } from 'node:events';
import type { AddressInfo } from 'node:net';
import { createServer } from 'node:net';
import { PassThrough } from 'node:stream';
import { fileURLToPath } from 'node:url';
import type { Engine } from '@graft/engine';
import { describe, expect, test, vi } from 'vitest';
import { scriptedEngine } from '../../test/scripted-engine.ts';
import { chat } from './chat.ts';
import { readEnvironment } from './config.ts';
import { runCli } from './main.ts';
import { progressReport } from './progress.ts';
import { type ServeOptions, serve } from './serve.ts';
import { type EngineStarter, loggedEvents } from './start-engine.ts';
import { describeFailure, printable } from './terminal.ts';

function terminal() {
  const read = (stream: PassThrough) => {
    let text = '';
    stream.on('data', (chunk: Buffer) => {
      text += chunk.toString();
    });
    return () => text;
  };
  const [stdin, stdout, stderr] = [new PassThrough(), new PassThrough(), new PassThrough()];
  return { stdin, stdout, stderr, out: read(stdout), err: read(stderr) };
}

async function run(...args: string[]) {
  const streams = terminal();
  const code = await runCli(args, streams);
  return { code, out: streams.out(), err: streams.err() };
}

describe('the flags', () => {
  test('come from the engine’s schema, with its words and defaults', async () => {
    const { code, out } = await run('serve', '--help');
    expect(code).toBe(0);
    const words = out.replace(/\s+/g, ' ');
    expect(words).toContain('--max-sequences <number> Sequences served at once; each holds one KV slot. (default: 8)');
    expect(words).toContain('--config-overrides <json>');
    expect(words).toContain('--weights <text>');
    expect(words).toContain('--api-key <key>');
  });

  test.each([
    ['a misspelt flag', ['serve', '--platfrom', 'cpu'], 'Did you mean --platform?'],
    ['a misspelt command', ['sevre'], 'Did you mean serve?'],
    ['an unknown level of the log', ['serve', '--log-level', 'loud'], 'Allowed choices are silent'],
    ['words for a number', ['serve', '--max-sequences', 'many'], 'whole number'],
    ['a number out of range', ['serve', '--max-sequences', '0'], '--max-sequences'],
    ['an unknown choice', ['serve', '--weights', 'int2'], 'Allowed choices are auto, float32'],
    ['broken JSON', ['serve', '--config-overrides', '{'], 'JSON object'],
    ['JSON that is not an object', ['serve', '--config-overrides', '[1]'], 'JSON object'],
    ['a port out of range', ['serve', '--port', '70000'], 'between 0 and 65535'],
    ['a URL for a host of images', ['serve', '--allow-image-host', 'https://example.com/'], 'a host alone'],
    ['reloading without a key', ['serve', '--enable-reload', '--port', '0', '--model', '/nonexistent'], 'without an API key'],
    ['a missing model', ['serve', '--port', '0', '--model', '/nonexistent'], '/nonexistent'],
    ['an unknown kind of project', ['new', 'plugni', 'acme'], 'Allowed choices are plugin, backend, model'],
    ['a name that npm refuses', ['new', 'plugin', '@Acme/My Plugin'], 'use "@acme/my-plugin"'],
    ['a folder with files in it', ['new', 'plugin', 'packages'], 'is not empty'],
    ['a missing model without --model', ['serve', '/nonexistent', '--port', '0'], '/nonexistent'],
  ])('%s is an error in words, without a stack', async (_, args, words) => {
    const { code, err } = await run(...args);
    expect(code).toBe(2);
    expect(err).toContain(words);
    expect(err).not.toMatch(/\n\s+at /);
  });
});

test('graft list names the plugins with what each brings, as text and as data', async () => {
  const { out } = await run('list');
  expect(out).toMatch(/plugin core-model .*\n {2}models: LlamaForCausalLM; /);
  expect(out).toMatch(/plugin cpu .*\n {2}platform cpu is device: .*\n {2}services: Backends on cpu, modes all/);
  const { plugins, platforms } = JSON.parse((await run('list', '--json')).out);
  expect(plugins).toContainEqual(expect.objectContaining({ name: 'core-model', layers: expect.arrayContaining(['RmsNorm']) }));
  expect(platforms).toContainEqual(expect.objectContaining({ name: 'cpu', device: 'device' }));
});

test.each([
  ['explain LlamaForCasualLM', { code: 'GRAFT_UNKNOWN_ARCHITECTURE', fix: expect.stringContaining('nearest') }],
  ['explain Nope', { code: 'GRAFT_UNKNOWN_ARCHITECTURE', fix: 'correct the name, or load the plugin that registers it.' }],
  ['explain RmsNorm', { code: 'GRAFT_UNKNOWN_ARCHITECTURE', fix: expect.stringContaining('graft contract RmsNorm') }],
  ['explain LlamaForCausalLM --app /nowhere', { code: 'GRAFT_APP_NOT_FOUND', where: '/nowhere' }],
  ['list --allow-plugins cpuu', { code: 'GRAFT_UNKNOWN_PLUGIN', where: '--allow-plugins or GRAFT_PLUGINS' }],
  ['contract cpu', { code: 'GRAFT_UNKNOWN_CLASS', fix: expect.stringContaining('add --against FOLDER') }],
  ['new plugin core-model', { code: 'GRAFT_CLI_USAGE', fix: expect.stringContaining('my-core-model') }],
  ['graphs --modle x', { code: 'GRAFT_CLI_USAGE', what: expect.stringContaining("unknown option '--modle'\n(Did you mean") }],
  ['serve --log-level loud', { code: 'GRAFT_CLI_USAGE', what: expect.stringContaining('Allowed choices') }],
  ['chat --model /nowhere', { code: 'GRAFT_CHECKPOINT_NOT_FOUND' }],
])('with --json the stderr of graft %s is the record of its error, as one line', async (command, record) => {
  const { code, out, err } = await run(...command.split(' '), '--json');
  expect({ code, out }).toEqual({ code: 2, out: '' });
  expect(err).toMatch(/^[^\n]+\n$/);
  expect(JSON.parse(err)).toMatchObject(record);
});

test('an error that nobody foresaw keeps its stack, as text and as a record', () => {
  const error = new TypeError('x is not a function');
  expect(describeFailure(error, false)).toMatch(/^graft: An unexpected error[^\n]*TypeError: x is not a function\n +at /);
  expect(JSON.parse(describeFailure(error, true))).toMatchObject({ code: 'GRAFT_UNEXPECTED', what: expect.stringContaining('    at ') });
});

test('graft --version prints the version', async () => {
  expect(await run('--version')).toMatchObject({ code: 0, out: '0.1.0\n' });
});

test('each report of the engine is logged as a record and a sentence', () => {
  const logged: [object, string][] = [];
  const events = loggedEvents((record, message) => void logged.push([record, message]));
  const warning = { plugin: 'acme', hook: 'unify', message: 'there is no rotation' };
  const failures = [{ guard: 'self_attn.attn', expected: 'Attention', actual: 'Chunked' }];
  const recompile = { at: '2026-01-01T00:00:00.000Z', region: 'decoder-layer', path: 'layers.3', failures, stallMs: 120 };
  events.emit('hook:warning', warning);
  events.emit('graph:recompile', recompile);
  expect(logged).toEqual([
    [warning, 'plugin "acme", hook "unify": there is no rotation'],
    [recompile, 'decoder-layer layers.3 was compiled while requests waited 120 ms: self_attn.attn is Chunked, expected Attention'],
  ]);
});

const options: ServeOptions = { host: '127.0.0.1', port: 0, logLevel: 'silent', model: 'x' };

describe('graft serve', () => {
  test('hands the flags to the engine, prints its address, and stops in order at SIGTERM', async () => {
    const streams = terminal();
    const engine: Engine = scriptedEngine();
    const close = vi.spyOn(engine, 'close');
    const configs: unknown[] = [];
    const start: EngineStarter = async (config) => {
      configs.push(config);
      return engine;
    };
    const flags = { ...options, maxSequences: 2, configOverrides: { rope_theta: 1 } };
    const ended = serve(flags, readEnvironment({ GRAFT_PLUGINS: 'cpu' }), streams, start);
    await vi.waitFor(() => expect(streams.out()).toContain('Chat: http://127.0.0.1:'), { timeout: 10_000 });
    const url = /Chat: (\S+)/.exec(streams.out())![1]!;
    expect((await fetch(`${url}/health`)).status).toBe(200);
    process.emit('SIGTERM', 'SIGTERM');
    await ended;
    await expect(fetch(`${url}/health`)).rejects.toThrow();
    expect(close).toHaveBeenCalledOnce();
    expect(configs).toEqual([{ model: 'x', maxSequences: 2, configOverrides: { rope_theta: 1 }, allowPlugins: ['cpu'] }]);
  });

  test('with --json prints one line when it is ready', async () => {
    const streams = terminal();
    const ended = serve({ ...options, json: true }, readEnvironment({}), streams, async () => scriptedEngine());
    await vi.waitFor(() => expect(streams.out()).toContain('\n'), { timeout: 10_000 });
    const { url, ...record } = JSON.parse(streams.out());
    expect(record).toEqual({ model: 'scripted', modelClass: 'Llama4ForCausalLM', platform: 'cpu', mode: 'full', device: 'device' });
    expect((await fetch(`${url}/health`)).status).toBe(200);
    process.emit('SIGTERM', 'SIGTERM');
    await ended;
  });

  test('has the routes and metrics that plugins bind, the routes behind the key', async () => {
    const streams = terminal();
    const plugins = [fileURLToPath(new URL('../services-plugin.fixture.ts', import.meta.url))];
    const ended = serve({ ...options, plugins, apiKey: 'secret' }, readEnvironment({}), streams, async () => scriptedEngine());
    await vi.waitFor(() => expect(streams.out()).toContain('Chat: http://127.0.0.1:'), { timeout: 10_000 });
    const url = /Chat: (\S+)/.exec(streams.out())![1]!;
    const headers = { authorization: 'Bearer secret' };
    expect((await fetch(`${url}/greet`)).status).toBe(401);
    expect(await (await fetch(`${url}/greet`, { headers })).json()).toEqual({ greeting: 'hello from scripted' });
    const page = await (await fetch(`${url}/metrics`, { headers })).text();
    expect(page).toMatch(/^greetings_total 1$/m);
    expect(page).toMatch(/^graft_http_requests_total\{method="GET",route="\/greet",status="200"\} 1$/m);
    process.emit('SIGTERM', 'SIGTERM');
    await ended;
  });

  test('says that a port is in use before it loads anything', async () => {
    const other = createServer().listen(0, '127.0.0.1');
    await vi.waitFor(() => expect(other.listening).toBe(true), { timeout: 10_000 });
    const { port } = other.address() as AddressInfo;
    const start = () => expect.fail('the model was loaded');
    const failure = serve({ ...options, port }, readEnvironment({}), terminal(), start);
    await expect(failure).rejects.toMatchObject({ code: 'GRAFT_PORT_IN_USE', message: expect.stringContaining(`--port ${port + 1}`) });
    other.close();
  });

  test('is stopped while the model loads', async () => {
    const loading = new EventEmitter();
    const start: EngineStarter = (_, { signal }) => {
      loading.emit('begun');
      return new Promise((_, reject) => signal!.addEventListener('abort', () => reject(signal!.reason)));
    };
    const begun = once(loading, 'begun');
    const ended = serve(options, readEnvironment({}), terminal(), start);
    await begun;
    process.emit('SIGINT', 'SIGINT');
    await expect(ended).rejects.toMatchObject({ code: 'GRAFT_STOPPED', exitCode: 130 });
  });
});

test('graft chat answers each line with the conversation so far, and leaves at /exit', async () => {
  const streams = terminal();
  const engine = scriptedEngine();
  streams.stdin.write('hello\n/new\nagain\nmore\n/exit\n');
  await chat({ model: 'x', temperature: 0, system: 'Be brief.' }, readEnvironment({}), streams, async () => engine);
  expect(streams.out()).toBe('Paris.\n'.repeat(3));
  const system = { role: 'system', content: 'Be brief.' };
  const user = (content: string) => ({ role: 'user', content });
  expect(engine.seen.map(({ prompt }) => ('messages' in prompt ? prompt.messages : null))).toEqual([
    [system, user('hello')],
    [system, user('again')],
    [system, user('again'), { role: 'assistant', content: 'Paris.' }, user('more')],
  ]);
});

test('graft chat --json prints one line for each answer, and ends at a question that is refused', async () => {
  const streams = terminal();
  streams.stdin.end('hello\nmore\n');
  await chat({ model: 'x', json: true }, readEnvironment({}), streams, async () => scriptedEngine());
  const answers = streams.out().trim().split('\n');
  expect(answers).toHaveLength(2);
  expect(JSON.parse(answers[0]!)).toMatchObject({ content: 'Paris.', finishReason: 'stop', usage: { completionTokens: 3 } });
  const other = terminal();
  other.stdin.end('hello\nmore\n');
  const refusing = scriptedEngine({ info: { maxModelLength: 0 } });
  const refused = chat({ model: 'x', json: true }, readEnvironment({}), other, async () => refusing);
  await expect(refused).rejects.toMatchObject({ code: expect.stringContaining('GRAFT_') });
  expect(other.out()).toBe('');
});

test('a model cannot drive the terminal', () => {
  expect(printable('a\u001b[31mred\u0007\r\n\tb\u009b2J')).toBe('a[31mred\n\tb2J');
});

test('without a terminal, progress is plain lines: one at the start of a step and one for each quarter', () => {
  const streams = terminal();
  const report = progressReport(streams.stderr);
  for (let i = 0; i <= 100; i++) report.show({ step: 'load', message: `${i} MB`, fraction: i / 100 });
  report.show({ step: 'compile', message: 'prefill and decode', fraction: null });
  expect(streams.err().split('\n')).toEqual([
    'Load 0 %: 0 MB',
    'Load 25 %: 25 MB',
    'Load 50 %: 50 MB',
    'Load 75 %: 75 MB',
    'Load 100 %: 100 MB',
    'Compile: prefill and decode',
    '',
  ]);
});

test('GRAFT_PLUGINS is an allow list; empty means none, absent means all', () => {
  expect(readEnvironment({ GRAFT_PLUGINS: '' }).allowPlugins).toEqual([]);
  expect(readEnvironment({}).allowPlugins).toBeUndefined();
});
