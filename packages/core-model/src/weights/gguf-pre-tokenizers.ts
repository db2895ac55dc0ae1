/** How text is split before byte-pair merging, for one value of a GGUF's `tokenizer.ggml.pre`. */
export interface GgufPreTokenizer {
  /** Each match is a piece. A pattern splits the pieces of the pattern before. */
  readonly patterns: readonly string[];
  readonly normalizer: 'NFC' | null;
  /** A piece of the vocabulary is one token, whatever the merges say. */
  readonly ignoreMerges: boolean;
  /** Whether a prompt begins with the beginning token, if the GGUF does not say. */
  readonly addBos: boolean;
}

/** GPT-2's words; also those of a `ByteLevel` pre-tokenizer. */
export const gpt2Words = String.raw`'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`;
const contractions = "(?i:'s|'t|'re|'ve|'m|'ll|'d)";
const spaces = String.raw`\s*[\r\n]+|\s+(?!\S)|\s+`;
const llama3Words = String.raw`${contractions}|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|${spaces}`;
const qwen2Words = String.raw`${contractions}|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|${spaces}`;
// A word in lower case, capitalised or not, or a word in capitals. `upper` and `lower` both hold the letters without case.
const upper = String.raw`[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]`;
const lower = String.raw`[\p{Ll}\p{Lm}\p{Lo}\p{M}]`;
const llama4Words = [
  String.raw`[^\r\n\p{L}\p{N}]?${upper}*${lower}+${contractions}?`,
  String.raw`[^\r\n\p{L}\p{N}]?${upper}+${lower}*${contractions}?`,
  String.raw`\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|${spaces}`,
].join('|');

/** By `tokenizer.ggml.pre`. */
export const ggufPreTokenizers: Readonly<Record<string, GgufPreTokenizer>> = {
  smollm: of([String.raw`\p{N}`, gpt2Words]),
  'gpt-2': of([gpt2Words]),
  'llama-bpe': of([llama3Words], { ignoreMerges: true, addBos: true }),
  llama4: of([llama4Words], { ignoreMerges: true, addBos: true }),
  qwen2: of([qwen2Words], { normalizer: 'NFC' }),
  default: of([String.raw`[\p{P}\$\+<=>\^~\|]+`, gpt2Words, String.raw`\p{N}+`, '[0-9][0-9][0-9]']),
};

function of(patterns: string[], more: Partial<GgufPreTokenizer> = {}): GgufPreTokenizer {
  return { patterns, normalizer: null, ignoreMerges: false, addBos: false, ...more };
}
