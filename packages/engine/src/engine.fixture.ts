import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { GraftError } from '@graft/common';
import { expect, onTestFinished } from 'vitest';
import type { z } from 'zod';
import type { EngineConfig } from './config.ts';
import type { Engine } from './engine.ts';
import { type GenerateOptions, LlmEngine } from './llm-engine.ts';
import type { GenerateRequest, TokenDelta } from './request.ts';
import { SamplerScratch } from './sampler.ts';
import type { SharedBySequences } from './sequence.ts';
import type { StartOptions } from './start-engine.ts';

export const root = fileURLToPath(new URL('../../../', import.meta.url));
export const caseFolder = (name: string): string => join(root, 'tests/parity/cases', name);
const plugin = fileURLToPath(new URL('./interpreter-plugin.fixture.ts', import.meta.url));

const base = mkdtempSync(join(tmpdir(), 'graft-engine-'));
process.once('exit', () => rmSync(base, { recursive: true, force: true }));

/** An empty folder that is removed when the tests of the file have ended. */
export const temporaryFolder = (): string => mkdtempSync(join(base, 'folder-'));

export interface TinyOptions extends Partial<z.input<typeof EngineConfig>> {
  /** A reference case. Default: dense-tiny. */
  name?: string;
}

/** A configuration that runs a reference case on the interpreter. */
export function tinyConfig({ name = 'dense-tiny', ...more }: TinyOptions = {}): z.input<typeof EngineConfig> {
  return {
    model: caseFolder(name),
    app: root,
    plugins: [plugin],
    platform: 'interpreter',
    weights: 'float32',
    maxSequences: 3,
    maxModelLength: 64,
    prefillTokens: 8,
    cacheDirectory: join(base, 'cache'),
    ...more,
  };
}

/** An engine that is closed when the test ends. */
export async function startTiny(more: TinyOptions = {}, options: StartOptions = {}): Promise<LlmEngine> {
  const engine = await LlmEngine.start(tinyConfig(more), options);
  onTestFinished(() => engine.close());
  return engine;
}

/** Tokens that differ from prompt to prompt. */
export const promptOf = (length: number, seed = 0): number[] => Array.from({ length }, (_, i) => 3 + ((i * 37 + seed * 101 + 11) % 290));

/** A request for token ids: greedy, past the end token, unless told otherwise. */
export function request(
  prompt: number[] | GenerateRequest['prompt'],
  sampling: NonNullable<GenerateRequest['sampling']> = {},
): GenerateRequest {
  return {
    prompt: Array.isArray(prompt) ? { tokenIds: prompt } : prompt,
    sampling: { temperature: 0, ignoreEos: true, maxTokens: 6, ...sampling },
  };
}

export async function collect(deltas: AsyncIterable<TokenDelta>): Promise<TokenDelta[]> {
  const all: TokenDelta[] = [];
  for await (const delta of deltas) all.push(delta);
  return all;
}

export const idsOf = (deltas: readonly TokenDelta[]): number[] => deltas.flatMap(({ tokenIds }) => tokenIds);
export const textOf = (deltas: readonly TokenDelta[]): string => deltas.map(({ text }) => text).join('');

export async function generateIds(engine: LlmEngine, asked: GenerateRequest, options: GenerateOptions = {}): Promise<number[]> {
  return idsOf(await collect(engine.generate(asked, options)));
}

/** What the sequences of a test share; without a tokenizer and end tokens unless given. */
export function sharedBy(more: Partial<SharedBySequences> = {}): SharedBySequences {
  const { vocabSize = 320 } = more;
  const counts = { promptTokens: 0, generationTokens: 0 };
  const text = { tokenizer: null, eosTokenIds: new Set<number>(), maxModelLength: 1000 };
  return { ...text, vocabSize, processors: [], scratch: new SamplerScratch(vocabSize), counts, ...more };
}

/** Waits until nothing runs or waits, and every slot is free: no later than the end of the step that is under way. */
export async function expectIdle(engine: Engine): Promise<void> {
  const idle = { running: 0, waiting: 0, freeSlots: engine.info.maxSequences };
  await expect.poll(() => engine.stats(), { timeout: 5000, interval: 5 }).toMatchObject(idle);
}

/** What a promise is rejected with; it must be one of our errors. */
export async function failureOf(promise: Promise<unknown>): Promise<GraftError> {
  const thrown = await promise.then(
    () => null,
    (error: unknown) => error,
  );
  if (!GraftError.is(thrown)) throw new Error('This did not fail with an error of ours.', { cause: thrown });
  return thrown;
}

/** Byte-level BPE's character for each byte. */
const alphabet = (() => {
  let other = 0;
  const printable = (byte: number): boolean => (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
  return Array.from({ length: 256 }, (_, byte) => String.fromCharCode(printable(byte) ? byte : 0x100 + other++));
})();

const specials = ['<pad>', '<s>', '</s>'];
const merges = [
  'h e',
  'l l',
  'he ll',
  'hell o',
  'Ġ w',
  'o r',
  'Ġw or',
  'l d',
  'Ġwor ld',
  't h',
  'th e',
  'Ġ the',
  'i n',
  'Ġ a',
  'e r',
  'a a',
];

/** A copy of dense-tiny with a tokenizer of its 320 ids at most (bytes, a few merges, three special tokens) and a chat template. */
export function folderWithTokenizer(): string {
  const folder = temporaryFolder();
  cpSync(caseFolder('dense-tiny'), folder, { recursive: true });
  const template = '{% for m in messages %}<s>{{ m.role }}: {{ m.content }}</s>{% endfor %}<s>assistant: ';
  writeTokenizer(folder, template, {});
  return folder;
}

/** The ids that vision-tiny's config.json gives to an image's patch, start and end, and three more of its vocabulary. */
export const imageTokenIds: Record<string, number> = {
  '<|patch|>': 300,
  '<|image_start|>': 301,
  '<|image_end|>': 302,
  '<|image|>': 303,
  '<|tile_x_separator|>': 304,
  '<|tile_y_separator|>': 305,
};

/** A copy of vision-tiny with a tokenizer that has the tokens of images, a chat template that places them, and an image processor of at most 4 tiles. */
export function folderWithImages(): string {
  const folder = temporaryFolder();
  cpSync(caseFolder('vision-tiny'), folder, { recursive: true });
  const content =
    "{% if m.content is string %}{{ m.content }}{% else %}{% for part in m.content %}{% if part.type == 'image' %}<|image|>{% else %}{{ part.text }}{% endif %}{% endfor %}{% endif %}";
  const template = `{% for m in messages %}<s>{{ m.role }}: ${content}</s>{% endfor %}<s>assistant: `;
  writeTokenizer(folder, template, imageTokenIds);
  writeFileSync(join(folder, 'preprocessor_config.json'), JSON.stringify({ size: { height: 56, width: 56 }, max_patches: 4 }));
  return folder;
}

/** @param more special tokens, and their ids. */
function writeTokenizer(folder: string, template: string, more: Record<string, number>): void {
  const tokens = [...specials, ...alphabet, ...merges.map((pair) => pair.replace(' ', ''))];
  const added = [...specials.map((content, id) => [content, id] as const), ...Object.entries(more)];
  const tokenizer = {
    version: '1.0',
    added_tokens: added.map(([content, id]) => ({ id, content, special: true, normalized: false })),
    normalizer: null,
    pre_tokenizer: { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: true },
    post_processor: null,
    decoder: { type: 'ByteLevel' },
    model: { type: 'BPE', unk_token: null, vocab: Object.fromEntries(tokens.map((token, id) => [token, id])), merges },
  };
  writeFileSync(join(folder, 'tokenizer.json'), JSON.stringify(tokenizer));
  writeFileSync(join(folder, 'tokenizer_config.json'), JSON.stringify({ bos_token: '<s>', eos_token: '</s>', chat_template: template }));
}

/** A copy of a reference case whose config.json has other keys. */
export function folderWithConfig(name: string, change: Record<string, unknown>): string {
  const folder = temporaryFolder();
  cpSync(caseFolder(name), folder, { recursive: true });
  const file = join(folder, 'config.json');
  writeFileSync(file, JSON.stringify({ ...(JSON.parse(readFileSync(file, 'utf8')) as object), ...change }));
  return folder;
}
