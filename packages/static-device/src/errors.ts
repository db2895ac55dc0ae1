import { GraftError } from '@graft/common';

/** A captured model cannot be compiled for the emulated device: a size is not known, or it is another model than the opened one. */
export class StaticDeviceGraphError extends GraftError {
  constructor(what: string, where: string) {
    super({
      code: 'GRAFT_STATIC_DEVICE_GRAPH',
      what,
      where,
      fix: 'capture the model that was opened, with a number for batch, sequence and all other sizes.',
    });
  }
}

/** The model's weights no longer fit the memory that was made for them: a path, a shape or what is tied to what has changed. */
export class StaticDeviceWeightError extends GraftError {
  constructor(what: string, path: string) {
    super({
      code: 'GRAFT_STATIC_DEVICE_WEIGHT',
      what,
      where: `weight "${path}"`,
      fix: 'open the model again: only values may change in place.',
    });
  }
}

/** Recipes cannot be written. */
export class StaticDeviceRecipeError extends GraftError {
  constructor(what: string, where: string, cause: unknown) {
    super({
      code: 'GRAFT_STATIC_DEVICE_RECIPE',
      what,
      where,
      fix: 'make the folder writable and free space there, or name another cache folder.',
      cause,
    });
  }
}
