import { graftError } from '@graft/common';

/** A captured model cannot be compiled for the emulated device: a size is unknown, or it is not the model that was opened. */
export class StaticDeviceGraphError extends graftError('GRAFT_STATIC_DEVICE_GRAPH', (what: string, where: string) => ({
  what,
  where,
  fix: 'capture the model that was opened, with a number for batch, sequence and all other sizes.',
})) {}

/** The model's weights no longer fit the device's memory: a path, a shape or a tie has changed. */
export class StaticDeviceWeightError extends graftError('GRAFT_STATIC_DEVICE_WEIGHT', (what: string, path: string) => ({
  what,
  where: `weight "${path}"`,
  fix: 'open the model again: only values may change in place.',
})) {}

/** Recipes cannot be written. */
export class StaticDeviceRecipeError extends graftError('GRAFT_STATIC_DEVICE_RECIPE', (what: string, where: string, cause: unknown) => ({
  what,
  where,
  fix: 'make the folder writable and free space there, or use another cache folder.',
  cause,
})) {}
