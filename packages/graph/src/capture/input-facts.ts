import { joinPath, type Region } from '../nn/module.ts';
import { type Dims, formatDims, watchSizes } from '../shape.ts';
import type { InputFact } from './capture-cache.ts';
import type { Flat, Structure } from './pytree.ts';

/** What a region's argument is called; one that the class does not name has its number. */
export function inputName(region: Region, index: number): string {
  return region.inputs[index] ?? `input${index}`;
}

/**
 * Element type, shape, null or value of each argument of a region, as a lookup compares them.
 * @param sized the dimensions to tell of: those of the tensors, or the same with numbers for symbols.
 */
export function inputFacts(region: Region, args: readonly Flat[], sized: (dims: Dims) => Dims = (dims) => dims): InputFact[] {
  const facts: InputFact[] = [];
  for (const [i, { structure, tensors }] of args.entries()) addInputFacts(facts, structure, tensors, inputName(region, i), sized);
  return facts;
}

function addInputFacts(
  facts: InputFact[],
  structure: Structure,
  tensors: Flat['tensors'],
  name: string,
  sized: (dims: Dims) => Dims,
): void {
  switch (structure.kind) {
    case 'tensor': {
      const { dtype, dims } = tensors[structure.index]!.tensor;
      facts.push({ name, text: dtype + watchSizes(null, () => formatDims(sized(dims))) });
      break;
    }
    case 'leaf':
      facts.push({ name, text: leafText(structure.value) });
      break;
    case 'list':
      facts.push({ name: joinPath(name, 'length'), text: String(structure.items.length) });
      for (const [i, item] of structure.items.entries()) addInputFacts(facts, item, tensors, joinPath(name, String(i)), sized);
      break;
    case 'record':
      for (const [key, item] of structure.entries) addInputFacts(facts, item, tensors, joinPath(name, key), sized);
  }
}

/** A `Dim` among the arguments is asked for its text here: a graph for any size does not stand for one at a number. */
function leafText(value: unknown): string {
  return typeof value === 'string' ? JSON.stringify(value) : String(value);
}
