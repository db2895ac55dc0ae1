import { GraftError } from '@graft/common';

/** A storage does not have the parts that its format and the parameter's shape need. */
export class StorageMismatchError extends GraftError {
  constructor(what: string, where?: string) {
    super({ code: 'GRAFT_STORAGE_MISMATCH', what, ...(where !== undefined && { where }), fix: 'use a format that fits the shape, or float32.' });
  }
}

/** The values of a parameter are asked for before the weights are loaded. */
export class ParameterWithoutStorageError extends GraftError {
  constructor(shape: readonly number[], where?: string) {
    super({
      code: 'GRAFT_PARAMETER_WITHOUT_STORAGE',
      what: `A parameter of shape [${shape.join(', ')}] has no values yet.`,
      ...(where !== undefined && { where }),
      fix: 'load the weights first.',
    });
  }
}
