import { joinPath, type Region } from '../nn/module.ts';
import { type Dims, formatDims, watchSizes } from '../shape.ts';
import type { InputFact } from './capture-cache.ts';
import { type Flat, walk } from './pytree.ts';

/** The name of a region's argument; one that the class does not name has its number. */
export function inputName(region: Region, index: number): string {
  return region.inputs[index] ?? `input${index}`;
}

/**
 * Element type, shape, null or value of each argument of a region, as a lookup compares them.
 * @param sized gives the dimensions to compare: those of the tensors, or the same with numbers for symbols.
 */
export function inputFacts(region: Region, args: readonly Flat[], sized: (dims: Dims) => Dims = (dims) => dims): InputFact[] {
  const facts: InputFact[] = [];
  for (const [i, { structure, tensors }] of args.entries()) {
    for (const { path, at } of walk(structure, inputName(region, i))) {
      if (at.kind === 'list') facts.push({ name: joinPath(path, 'length'), text: String(at.items.length) });
      else if (at.kind === 'leaf') facts.push({ name: path, text: leafText(at.value) });
      else if (at.kind === 'tensor') {
        const { dtype, dims } = tensors[at.index]!.tensor;
        facts.push({ name: path, text: dtype + watchSizes(null, () => formatDims(sized(dims))) });
      }
    }
  }
  return facts;
}

/** A `Dim` among the arguments is asked for its text here: a graph for any size does not stand for one at a number. */
function leafText(value: unknown): string {
  return typeof value === 'string' ? JSON.stringify(value) : String(value);
}
