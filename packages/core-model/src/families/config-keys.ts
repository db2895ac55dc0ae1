import { z } from 'zod';
import { ConfigContradictionError } from '../errors.ts';
import type { RawConfig } from './family.ts';

export const positive = z.int().positive();
/** A number of layers, of which each is built as modules before any weight is read. */
export const layerCount = positive.max(4096);

type Camel<S extends string> = S extends `${infer Head}_${infer Tail}` ? `${Head}${Capitalize<Camel<Tail>>}` : S;
export type CamelKeys<Keys extends z.ZodRawShape> = {
  readonly [K in keyof Keys & string as Camel<K>]: z.output<Keys[K]>;
};

export const camel = (key: string): string => key.replace(/_([a-z0-9])/g, (_, letter: string) => letter.toUpperCase());

/** The values of these keys, each name in camelCase. */
export function camelKeys<Keys extends z.ZodRawShape>(keys: Keys, values: RawConfig): CamelKeys<Keys> {
  return Object.fromEntries(Object.keys(keys).map((key) => [camel(key), values[key]])) as CamelKeys<Keys>;
}

/** The path of a key in config.json; empty for several keys at once. */
type Path = readonly (string | number)[];

/** Reports that two keys contradict each other, for a schema's `transform`, which goes on: the first problem is the one that is thrown. */
export function contradiction(context: z.RefinementCtx, message: string, path: Path = []): void {
  context.addIssue({ code: 'custom', message, path: [...path], params: { error: ConfigContradictionError } });
}

/** Reports a value that the schema allows and the family does not. */
export function invalid(context: z.RefinementCtx, message: string, path: Path): void {
  context.addIssue({ code: 'custom', message, path: [...path] });
}
