import type { HostTensor } from '../backend.ts';
import type { KernelContext } from '../ops/define-op.ts';
import type { AttributesOf, InputsOf, OpName, ops } from '../ops/index.ts';

/** Computes the outputs that `forward` sees. An op that writes in place writes into its input. */
export type Kernel<Name extends OpName> = (
  inputs: InputsOf<(typeof ops)[Name], HostTensor>,
  attributes: AttributesOf<(typeof ops)[Name]>,
  context: KernelContext,
) => readonly HostTensor[];

export type Kernels = { readonly [Name in OpName]: Kernel<Name> };
