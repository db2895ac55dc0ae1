import type { HostTensor } from '../backend.ts';
import type { AttributesOf, InputsOf, OpName } from '../ops/index.ts';

/** What a kernel may know besides its inputs. */
export interface KernelContext {
  /** Dimensions of each output as inference gave them, with the step's sizes in place of symbols. */
  readonly outputDims: readonly (readonly number[])[];
  /** Refuses the values of an input, which no inference sees. @throws ProgramInputError */
  fail(what: string): never;
}

/** Computes the outputs that `forward` sees; what an op writes in place, it writes into its input. */
export type Kernel<Name extends OpName> = (
  inputs: InputsOf<Name, HostTensor>,
  attributes: AttributesOf<Name>,
  context: KernelContext,
) => readonly HostTensor[];

export type Kernels = { readonly [Name in OpName]: Kernel<Name> };
