import type { ImageTower } from '@graft/core-model';
import { EngineConfigError, NoTokenizerError, TokenOutOfRangeError } from '../errors.ts';
import { Random } from '../random.ts';
import type { ModelText } from '../text/model-text.ts';

/** The input of both models. */
export interface VerifyPrompt {
  readonly ids: readonly number[];
  /** One tile of noise and the place of its tokens; null if the model reads no images. */
  readonly image: VerifyImage | null;
}

export interface VerifyImage {
  /** `[1, channels, side, side]`, from -1 to 1. */
  readonly pixelValues: Float32Array;
  readonly firstToken: number;
  readonly tokens: number;
}

interface PromptSubject {
  vocabSize: number;
  /** Null for a model that reads no images. */
  tower: ImageTower | null;
  readText(): Promise<ModelText>;
  /** For errors. */
  path: string;
}

/**
 * The requested prompt. Default: some token ids, with an image among them if the model reads images.
 * @throws EngineConfigError for an empty prompt, TokenOutOfRangeError, NoTokenizerError.
 */
export async function promptOf(asked: string | readonly number[] | undefined, subject: PromptSubject): Promise<VerifyPrompt> {
  const { vocabSize } = subject;
  if (asked === undefined) return defaultPrompt(subject);
  const ids = typeof asked === 'string' ? await encode(asked, subject) : asked;
  if (ids.length === 0) throw new EngineConfigError('The prompt is empty.', '--prompt', 'give a text, or leave it out.');
  const wrong = ids.find((id) => !(id < vocabSize));
  if (wrong !== undefined) throw new TokenOutOfRangeError(wrong, vocabSize);
  return { ids, image: null };
}

async function encode(text: string, { readText, path }: PromptSubject): Promise<number[]> {
  const { tokenizer } = await readText();
  if (tokenizer === null) throw new NoTokenizerError(path);
  return tokenizer.encode(text);
}

const defaultLength = 20;

function defaultPrompt({ vocabSize, tower }: PromptSubject): VerifyPrompt {
  const reserved = tower?.imageTokenIndex ?? -1;
  const ids = Array.from({ length: defaultLength }, (_, i) => (37 * i + 11) % vocabSize).map((id) =>
    id === reserved ? (id + 1) % vocabSize : id,
  );
  if (tower === null) return { ids, image: null };
  const { tokensPerTile, numChannels, imageSize } = tower;
  const firstToken = defaultLength / 2;
  const places = new Array<number>(tokensPerTile).fill(reserved);
  const random = new Random(1);
  const pixelValues = Float32Array.from({ length: numChannels * imageSize * imageSize }, () => 2 * random.next() - 1);
  return {
    ids: [...ids.slice(0, firstToken), ...places, ...ids.slice(firstToken)],
    image: { pixelValues, firstToken, tokens: tokensPerTile },
  };
}
