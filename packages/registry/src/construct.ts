import { GraftError, messageOf } from '@graft/common';
import { ConstructionFailedError } from './errors.ts';
import type { ModelClass } from './model.ts';

/**
 * Class and context to model: `new Model(context)`, upstream and override alike.
 * @throws ConstructionFailedError with the cause and the class; a Graft error that the constructor throws passes unchanged.
 */
export function construct<Context, Model extends object>(Model: ModelClass<Context, Model>, context: Context): Model {
  try {
    return new Model(context);
  } catch (cause) {
    if (GraftError.is(cause)) throw cause;
    throw new ConstructionFailedError(Model.name, messageOf(cause), cause);
  }
}
