/** How text is split before byte-pair merging, for one value of a GGUF's `tokenizer.ggml.pre`. */
export interface GgufPreTokenizer {
  /** Each match is a piece. A pattern splits the pieces of the pattern before. */
  readonly patterns: readonly string[];
  /** A piece of the vocabulary is one token, whatever the merges say. */
  readonly ignoreMerges: boolean;
  /** Whether a prompt begins with the beginning token, if the GGUF does not say. */
  readonly addBos: boolean;
  /** `bytes`: tokens are written in the byte-level alphabet. `characters`: tokens are plain text, with U+2581 for a space and `<0xNN>` for a lone byte. */
  readonly alphabet: 'bytes' | 'characters';
}

/** GPT-2's words; also those of a `ByteLevel` pre-tokenizer. */
export const gpt2Words = String.raw`'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`;
const contractions = "(?i:'s|'t|'re|'ve|'m|'ll|'d)";
const blanks = String.raw`\s+(?!\S)|\s+`;
const spaces = String.raw`\s*[\r\n]+|${blanks}`;
const word = String.raw`[^\r\n\p{L}\p{N}]?\p{L}+`;
const symbols = String.raw` ?[^\s\p{L}\p{N}]+[\r\n]*`;
const pathSymbols = String.raw` ?[^\s\p{L}\p{N}]+[\r\n/]*`;
const digit = String.raw`\p{N}`;
const threeDigits = String.raw`\p{N}{1,3}`;
const llama3Words = [contractions, word, threeDigits, symbols, spaces].join('|');
const qwen2Words = [contractions, word, digit, symbols, spaces].join('|');

/** A word in lower case, capitalised or not, or a word in capitals. Both sets hold the letters without case. `but` is taken from them. */
function casedWords(end: string, but = ''): string {
  const upper = String.raw`[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}${but}]`;
  const lower = String.raw`[\p{Ll}\p{Lm}\p{Lo}\p{M}${but}]`;
  const before = String.raw`[^\r\n\p{L}\p{N}]?`;
  return `${before}${upper}*${lower}+${end}|${before}${upper}+${lower}*${end}`;
}
const gpt4oWords = [casedWords(`${contractions}?`), threeDigits, pathSymbols, spaces].join('|');

/** Digits in threes from the right. Only the start of a run looks ahead, so that a long one takes linear time. */
const threes = (one: string): string => `(?<!${one})${one}{1,2}(?=(?:${one}{3})*(?!${one}))|${one}{3}`;

const han = String.raw`[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+`;
const asciiWord = String.raw`[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_\x60{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+`;
const deepseek3 = [threeDigits, han, String.raw`${asciiWord}| ?[\p{P}\p{S}]+[\r\n]*|${spaces}`];
/** The letters with case of the Unicode version that the tokenizer was made with. */
const deepseekLetters =
  'A-Za-zµÀ-ÖØ-öø-ƺƼ-ƿǄ-ʓʕ-ʯͰ-ͳͶͷͻ-ͽͿΆΈ-ΊΌΎ-ΡΣ-ϵϷ-ҁҊ-ԯԱ-ՖႠ-ჅᎠ-Ᏽᏸ-ᏽᲐ-ᲺᲽ-Ჿᴀ-ᴫᵫ-ᵷᵹ-ᶚḀ-ἕἘ-Ἕἠ-ὅὈ-Ὅὐ-ὗὙὛὝ\u1f5f-\u1f7dᾀ-ᾴᾶ-ᾼ\u1fbeῂ-ῄῆ-ῌ\u1fd0-\u1fd3\u1fd6-\u1fdbῠ-Ῥῲ-ῴῶ-ῼ' +
  'ℂℇℊ-ℓℕℙ-ℝℤ\u2126ℨ\u212a-\u212dℯ-ℴℹℼ-ℿⅅ-ⅉⅎↃↄⰀ-ⱻⱾ-ⳤⳫ-ⳮⳲⳳꙀ-ꙭꚀ-ꚛꜢ-ꝯꝱ-ꞇꞋ-ꞎꭰ-ꮿﬀ-ﬆﬓ-ﬗＡ-Ｚａ-ｚ𐐀-𐑏𐒰-𐓓𐓘-𐓻𐲀-𐲲𐳀-𐳲𑢠-𑣟𞤀-𞥃';
const deepseekAsian = String.raw`[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+`;
const afmoeAsian = [
  String.raw`\u4e00-\u9fff\u3400-\u4dbf\uf900-\ufaff\u3040-\u309f\u30a0-\u30ff\uff65-\uff9f\u2f00-\u2fdf\u0e40-\u0e7f`,
  String.raw`\u0e80-\u0eff\u1780-\u17ff\u1000-\u109f\uaa60-\uaa7f\ua9e0-\ua9ff\uac00-\ud7af\u1100-\u11ff`,
].join('');
const lines = String.raw`[^\n]+|\n+`;
const punctuation = String.raw`[\p{P}\$\+<=>\^~\|]+`;
const scripts = (marks: string): string => String.raw` ?[^(\s|${marks})]+`;

const llama3 = of([llama3Words], { ignoreMerges: true, addBos: true });
const qwen2 = of([qwen2Words]);
const gpt2 = of([gpt2Words]);
const smollm = of([digit, gpt2Words]);
const gpt4o = of([gpt4oWords]);
const characters = of([lines], { alphabet: 'characters', ignoreMerges: true });

/** By `tokenizer.ggml.pre`: the names that llama.cpp knows. */
export const ggufPreTokenizers: Readonly<Record<string, GgufPreTokenizer>> = {
  ...named('llama-bpe llama3 llama-v3 falcon3 falcon-h1 pixtral midm-2.0 lfm2 jina-v5-nano', llama3),
  ...named('dbrx smaug-bpe glm4 chatglm-bpe', of([llama3Words])),
  ...named('minicpm5', of([threeDigits, [contractions, word, String.raw`\p{N}+`, symbols, spaces].join('|')], { ignoreMerges: true })),
  ...named('qwen2 deepseek-r1-qwen kormo f2llmv2 megrez stablelm2 hunyuan solar-open grok-2', qwen2),
  ...named(
    'qwen35',
    of([[contractions, String.raw`[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+`, digit, String.raw` ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*`, spaces].join('|')]),
  ),
  ...named('ufakzeka', of([[word, digit, symbols, spaces].join('|')])),
  ...named('laguna', of([lines, qwen2Words])),
  ...named('seed-coder', of([[contractions, word, digit, String.raw` ?[^\s\p{L}\p{N}\r\n]+`, spaces].join('|')])),
  ...named(
    'bailingmoe bailingmoe2 llada-moe',
    of([["'(?i:[sdmt]|ll|ve|re)", word, digit, symbols, String.raw`\s*[\r\n]`, blanks].join('|')]),
  ),
  ...named(
    'exaone-moe',
    of([
      [
        contractions,
        String.raw`[^\r\n\p{L}\p{N}]?(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+`,
        digit,
        String.raw` ?[^\s\p{L}\p{N}]+[\r\n/]?`,
        String.raw`\s*[\r\n]`,
        blanks,
      ].join('|'),
    ]),
  ),
  ...named(
    'jais-2',
    of([
      [
        contractions,
        word,
        threeDigits,
        symbols,
        String.raw`\s*[\r\n]+`,
        ...['512', '256', '128', '64', '32', '16', '8', '4', '1,2'].map((count) => String.raw`\s{${count}}(?!\S)`),
        String.raw`\s`,
      ].join('|'),
    ]),
  ),
  ...named('llama4', of([gpt4oWords], { ignoreMerges: true, addBos: true })),
  ...named('gpt-4o kanana2 talkie minimax-m2', gpt4o),
  ...named('granite-embed-multi-97m', of([gpt4oWords], { ignoreMerges: true })),
  ...named('tiny_aya cohere2moe', of([String.raw`\d{1,3}(?=(?:\d{3})*\b)`, gpt4oWords])),
  ...named('tekken', of([[casedWords(''), digit, pathSymbols, spaces].join('|')], { ignoreMerges: true, addBos: true })),
  ...named(
    'youtu',
    of(
      [
        String.raw`[\uac00-\ud7a3\u3131-\u318e]+|[！…“”‘’—：；，\u3001-\u303f\ufe30-\ufe4f]+|[\u3105-\u312f]+|${han}`,
        [casedWords(`${contractions}?`), digit, pathSymbols, spaces].join('|'),
      ],
      { ignoreMerges: true },
    ),
  ),
  ...named(
    'kimi-k2',
    of([[String.raw`\p{Han}+`, casedWords(`${contractions}?`, String.raw`&&[^\p{Han}]`), threeDigits, symbols, spaces].join('|')]),
  ),
  ...named('deepseek-v3 hunyuan-dense joyai-llm hy_v4', of(deepseek3)),
  ...named('spark2_5', of([threeDigits, han, String.raw`${asciiWord}| ?[\p{P}\p{S}]+|[\r\n]|${blanks}`, digit])),
  ...named(
    'deepseek-llm',
    of([
      '[\r\n]',
      String.raw`\s?[${deepseekLetters}]+`,
      String.raw`\s?[!-/:-~！-／：-～‘-‟\u3000-。]+`,
      String.raw`\s+$`,
      deepseekAsian,
      String.raw`\p{N}+`,
    ]),
  ),
  ...named('deepseek-coder', of(['[\r\n]', String.raw`\s?\p{L}+`, String.raw`\s?\p{P}+`, deepseekAsian, digit])),
  ...named('afmoe', of([threes(digit), `[${afmoeAsian}]+`, String.raw`${asciiWord}| ?[\p{P}\p{S}]+[\r\n]*|${spaces}`])),
  ...named('superbpe', of([String.raw`\p{N}+`, threes(String.raw`\d`)])),
  ...named('smollm starcoder refact command-r codeshell exaone minerva-7b mellum2', smollm),
  ...named('gpt-2 phi-2 jina-es jina-de gigachat jina-v2-es jina-v2-de a.x-4.0 mellum modern-bert exaone4', gpt2),
  ...named('jina-v1-en jina-v2-code roberta-bpe mpt jais trillion granite-docling olmo', gpt2),
  ...named('falcon', of([String.raw`[\p{P}\$\+<=>\^~\|\x60]+`, gpt2Words, '[0-9][0-9][0-9]'])),
  ...named('poro-chat bloom gpt3-finnish', of([scripts('.,!?…。，、।۔،')])),
  ...named('viking', of([scripts('.,!?…。，、।۔،'), digit])),
  ...named(
    'chameleon',
    of(['<sentinel:[0-9]+>', 'IMGIMG[A-I]{1,4}Z', String.raw`[\t\n]|    |  `, digit, String.raw`[\p{P}!-/:-@\[-\x60{-~]`, gpt2Words], {
      addBos: true,
    }),
  ),
  ...named('gemma4 granite-embed-multi-311m', { ...characters, addBos: true }),
  ...named('sarvam-moe', characters),
  ...named('default', of([punctuation, gpt2Words, String.raw`\p{N}+`, '[0-9][0-9][0-9]'])),
};

/**
 * By `tokenizer.ggml.model`: byte-pair encoding with merges, or SentencePiece with scores. `pre` stands for a `tokenizer.ggml.pre` that such a file lacks, or writes
 * otherwise. The names that llama.cpp knows and that are not here belong to models that generate no text or to alphabets of their own.
 */
export const ggufVocabularies: Readonly<
  Record<string, { kind: 'merges'; pre?: string } | { kind: 'scores'; algorithm: 'bpe' | 'unigram' }>
> = {
  gpt2: { kind: 'merges' },
  gemma4: { kind: 'merges', pre: 'gemma4' },
  llama: { kind: 'scores', algorithm: 'bpe' },
  t5: { kind: 'scores', algorithm: 'unigram' },
};

/** Whether an added token takes the white space after it, which a GGUF cannot say: llama.cpp knows these models by `general.name`. */
export const ggufTokenTakesSpace = (modelName: string, token: string): boolean =>
  /phi-?3/i.test(modelName) && !['<unk>', '<s>', '<|endoftext|>'].includes(token);

function of(patterns: string[], more: Partial<GgufPreTokenizer> = {}): GgufPreTokenizer {
  return { patterns, ignoreMerges: false, addBos: false, alphabet: 'bytes', ...more };
}

/** One entry for each of the names, which stand with spaces between. */
function named(names: string, rules: GgufPreTokenizer): Record<string, GgufPreTokenizer> {
  return Object.fromEntries(names.split(' ').map((name) => [name, rules]));
}
