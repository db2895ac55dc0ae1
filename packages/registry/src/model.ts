/** A parameter, as the registry sees it: the facts that a checkpoint depends on. The object is its identity. */
export interface ParameterFacts {
  readonly dtype: string;
  /** Logical dimensions. */
  readonly shape: readonly number[];
}

export interface BufferFacts extends ParameterFacts {
  readonly persistent: boolean;
}

/** All that the registry reads on a model. The `Module` of packages/graph satisfies it; so does a two-line class in a test. */
export interface InspectableModel {
  namedParameters(): Iterable<[string, ParameterFacts]>;
  namedBuffers(): Iterable<[string, BufferFacts]>;
  /** Its parts by path, so that a patch can say where it was made. */
  namedModules?(): Iterable<[string, object]>;
}

/** A model's capabilities, known before its code is imported: `{ images: true, ... }`. The registry passes them on and does not read them. */
export type ModelCapabilities = Readonly<Record<string, unknown>>;

/** A model class: built as `new Model(context)`, upstream and override alike. */
export type ModelClass<Context = never, Model extends object = object> = new (context: Context) => Model;

/** Builds an override on whatever class it is given, so that overrides stack: `(Base) => { class X extends Base {} return X; }`. */
export type ClassFactory = (Base: never) => AnyClass;

// Lazy references are called only when a resolution is loaded. A family is what a model's plugin says of it to the engine.
export type LazyModel = () => Promise<ModelClass>;
export type LazyFactory = () => Promise<ClassFactory>;
export type LazyClass = () => Promise<AnyClass>;
export type LazyFamily = () => Promise<object>;

/** A class of any kind: a layer takes whatever its constructor takes. */
export type AnyClass = new (...args: never[]) => object;
