import type { AnyClass } from './model.ts';

/** Constructs the class that serves in the place of `Class`, with the arguments that `Class` takes. */
export type Build = <C extends AnyClass>(Class: C, ...args: ConstructorParameters<C>) => InstanceType<C>;

/** Where nothing is overridden: `new Class(...args)`. */
export const buildUpstream: Build = (Class, ...args) => new Class(...args) as InstanceType<typeof Class>;
