import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { FamilyImages, ImageTower } from '@graft/core-model';
import { z } from 'zod';
import { EngineConfigError, InvalidRequestError } from '../errors.ts';
import { ImagePlacesError } from './errors.ts';
import type { ImageLimits } from './image-config.ts';
import { ImageProcessor, type ProcessedImage, type ProcessOptions } from './processor.ts';
import { type ImageTiles, PromptImages } from './prompt-images.ts';

/** The model's own settings of its image processor, as published beside the weights. Everything else in the file says how values are computed, which is fixed here. */
const PreprocessorConfig = z.looseObject({
  size: z.looseObject({ height: z.int().positive(), width: z.int().positive() }).nullish(),
  max_patches: z.int().min(1).max(64).nullish(),
  resize_to_max_canvas: z.boolean().nullish(),
});

/** From the images of a request to what a sequence keeps of them: tiles, their tokens in the prompt, and which of the tower's rows stands where. */
export class ImageReader {
  private readonly tower: ImageTower;
  private readonly images: Pick<FamilyImages, 'tokens' | 'layout'>;
  private readonly processor: ImageProcessor;

  private constructor(tower: ImageTower, images: Pick<FamilyImages, 'tokens' | 'layout'>, processor: ImageProcessor) {
    this.tower = tower;
    this.images = images;
    this.processor = processor;
  }

  /**
   * @param folder the checkpoint's; `preprocessor_config.json` is read where there is one.
   * @param images the family's.
   * @throws EngineConfigError for a file that is none, or made for tiles of another size than the tower's.
   */
  static async open(
    folder: string,
    tower: ImageTower,
    images: Pick<FamilyImages, 'tokens' | 'layout'>,
    limits: ImageLimits,
  ): Promise<ImageReader> {
    const file = join(folder, 'preprocessor_config.json');
    const given = await readPreprocessorConfig(file);
    const { size, max_patches: maxTiles, resize_to_max_canvas: resizeToMaxCanvas } = given;
    const { imageSize } = tower;
    if (size && (size.height !== imageSize || size.width !== imageSize)) {
      const what = `Its size is ${size.height} x ${size.width}, but the vision tower takes tiles of ${imageSize} x ${imageSize}.`;
      throw new EngineConfigError(what, `${file}, key "size"`, 'take the file that belongs to this checkpoint.');
    }
    const settings = { ...(maxTiles && { maxTiles }), ...(resizeToMaxCanvas && { resizeToMaxCanvas }) };
    return new ImageReader(tower, images, new ImageProcessor({ tileSide: imageSize, ...settings, limits }));
  }

  /** @throws the image errors; the signal's reason. */
  process(images: readonly Uint8Array[], options: ProcessOptions): Promise<ProcessedImage[]> {
    return this.processor.process(images, options);
  }

  /** @throws ImagePlacesError when a rendered chat does not have one place for each image. */
  checkPlaces(text: string, images: number): void {
    const { image } = this.images.tokens;
    const places = text.split(image).length - 1;
    if (places === images) return;
    const what = `The rendered chat has ${places} places for images ("${image}"), and the messages bring ${images}.`;
    const fix = `leave the text "${image}" out of the messages; where it is not there, the model's chat template does not place images.`;
    throw new ImagePlacesError(what, 'messages', fix);
  }

  /** The chat with each image's own tokens in its place. */
  expand(text: string, images: readonly ProcessedImage[]): string {
    const layouts = images.map(({ aspectRatio }) => this.images.layout(aspectRatio, this.tower.tokensPerTile).join(''));
    return text
      .split(this.images.tokens.image)
      .map((part, index) => part + (layouts[index] ?? ''))
      .join('');
  }

  /**
   * @param promptIds with the image token at each place that a row of the tower's output takes, in the order of the tiles.
   * @throws ImagePlacesError when there are more or fewer such places than rows; InvalidRequestError for tiles of another size than the tower's.
   */
  place(promptIds: readonly number[], images: readonly ImageTiles[]): PromptImages {
    const { tokensPerTile, imageTokenIndex, numChannels, imageSize } = this.tower;
    const tileDims = [numChannels, imageSize, imageSize];
    checkTiles(images, tileDims);
    let next = 0;
    const rows = Int32Array.from(promptIds, (id) => (id === imageTokenIndex ? next++ : -1));
    const expected = images.reduce((sum, { tiles }) => sum + tiles, 0) * tokensPerTile;
    if (next === expected) return new PromptImages({ images, tileDims, tokensPerTile, rows });
    const what = `The prompt has ${next} places for tokens of images (token ${imageTokenIndex}), and the images need ${expected}, ${tokensPerTile} a tile.`;
    throw new ImagePlacesError(
      what,
      'prompt',
      `place token ${imageTokenIndex} once for each, and use its text "${this.images.tokens.patch}" for nothing else.`,
    );
  }
}

function checkTiles(images: readonly ImageTiles[], tileDims: readonly number[]): void {
  const length = tileDims.reduce((product, dim) => product * dim, 1);
  for (const [index, { pixelValues, tiles }] of images.entries()) {
    if (pixelValues.length === tiles * length) continue;
    const what = `${tiles} tiles of ${tileDims.join(' x ')} are ${tiles * length} values, not ${pixelValues.length}.`;
    throw new InvalidRequestError(what, `prompt.images.${index}.pixelValues`);
  }
}

async function readPreprocessorConfig(file: string): Promise<z.output<typeof PreprocessorConfig>> {
  if (!existsSync(file)) return {};
  const fix = 'take the file that belongs to this checkpoint, or remove it.';
  let value: unknown;
  try {
    value = JSON.parse(await readFile(file, 'utf8'));
  } catch {
    throw new EngineConfigError('It is no JSON.', file, fix);
  }
  const parsed = PreprocessorConfig.safeParse(value);
  if (parsed.success) return parsed.data;
  const { path, message } = parsed.error.issues[0]!;
  throw new EngineConfigError(`${message}.`, `${file}, key "${path.join('.')}"`, fix);
}
