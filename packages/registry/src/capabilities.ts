/** What a model says about itself before any of its code is imported: `{ images: true, ... }`. The registry carries it and reads nothing in it. */
export type ModelCapabilities = Readonly<Record<string, unknown>>;
