import { join } from 'node:path';
import type { FamilyImages, ImageTower } from '@graft/core-model';
import { z } from 'zod';
import { EngineConfigError, InvalidRequestError } from '../errors.ts';
import { readJsonFile } from '../json-file.ts';
import { ImagePlacesError } from './errors.ts';
import type { ImageLimits } from './image-config.ts';
import { ImageProcessor, type ProcessedImage, type ProcessOptions } from './processor.ts';
import { type ImageTiles, PromptImages } from './prompt-images.ts';

/** The published settings of the model's image processor. The file's other keys describe the arithmetic, which is fixed here. */
const PreprocessorConfig = z.looseObject({
  size: z.looseObject({ height: z.int().positive(), width: z.int().positive() }).nullish(),
  max_patches: z.int().min(1).max(64).nullish(),
  resize_to_max_canvas: z.boolean().nullish(),
});

/** Turns a request's images into tiles and their tokens in the prompt, and finds the place of each row of the tower's output. */
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
   * @param folder of the checkpoint; `preprocessor_config.json` is optional.
   * @param images of the family.
   * @throws EngineConfigError for a malformed file, or for tiles of another size than the tower's.
   */
  static async open(
    folder: string,
    tower: ImageTower,
    images: Pick<FamilyImages, 'tokens' | 'layout'>,
    limits: ImageLimits,
  ): Promise<ImageReader> {
    const file = join(folder, 'preprocessor_config.json');
    const refuse = (what: string, where: string) =>
      new EngineConfigError(what, where, 'use the file that belongs to this checkpoint, or remove it.');
    const {
      size,
      max_patches: maxTiles,
      resize_to_max_canvas: resizeToMaxCanvas,
    } = (await readJsonFile(file, PreprocessorConfig, refuse)) ?? {};
    const { imageSize } = tower;
    if (size && (size.height !== imageSize || size.width !== imageSize)) {
      const what = `Its size is ${size.height} x ${size.width}, but the vision tower takes tiles of ${imageSize} x ${imageSize}.`;
      throw refuse(what, `${file}, key "size"`);
    }
    const settings = { ...(maxTiles && { maxTiles }), ...(resizeToMaxCanvas && { resizeToMaxCanvas }) };
    return new ImageReader(tower, images, new ImageProcessor({ tileSide: imageSize, ...settings, limits }));
  }

  /** @throws the image errors; the signal's reason. */
  process(images: readonly Uint8Array[], options: ProcessOptions): Promise<ProcessedImage[]> {
    return this.processor.process(images, options);
  }

  /** @throws ImagePlacesError if a rendered chat does not have one place for each image. */
  checkPlaces(text: string, images: number): void {
    const { image } = this.images.tokens;
    const places = text.split(image).length - 1;
    if (places === images) return;
    const what = `The rendered chat has ${places} places for images ("${image}"), but the messages contain ${images}.`;
    const fix = `leave the text "${image}" out of the messages; if it is not there, the model's chat template does not place images.`;
    throw new ImagePlacesError(what, 'messages', fix);
  }

  /** The chat with each image's tokens in its place. */
  expand(text: string, images: readonly ProcessedImage[]): string {
    const layouts = images.map(({ aspectRatio }) => this.images.layout(aspectRatio, this.tower.tokensPerTile).join(''));
    return text
      .split(this.images.tokens.image)
      .map((part, index) => part + (layouts[index] ?? ''))
      .join('');
  }

  /**
   * @param promptIds has the image token once for each row of the tower's output, in the order of the tiles.
   * @throws ImagePlacesError if the number of places differs from the number of rows; InvalidRequestError for tiles of another size than the tower's.
   */
  place(promptIds: readonly number[], images: readonly ImageTiles[]): PromptImages {
    const { tokensPerTile, imageTokenIndex, numChannels, imageSize } = this.tower;
    const tileDims = [numChannels, imageSize, imageSize];
    checkTiles(images, tileDims);
    let next = 0;
    const rows = Int32Array.from(promptIds, (id) => (id === imageTokenIndex ? next++ : -1));
    const expected = images.reduce((sum, { tiles }) => sum + tiles, 0) * tokensPerTile;
    if (next === expected) return new PromptImages({ images, tileDims, tokensPerTile, rows });
    const what = `The prompt has ${next} places for tokens of images (token ${imageTokenIndex}), but the images need ${expected}, ${tokensPerTile} per tile.`;
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
