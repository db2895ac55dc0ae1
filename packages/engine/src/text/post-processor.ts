import { TokenizerInvalidError, TokenizerUnsupportedError } from './tokenizer-errors.ts';
import type { TokenizerPart } from './tokenizer-json.ts';

type TemplateItem = { SpecialToken: { id: string } } | { Sequence: { id: string } };

/**
 * The ids before and after a text that a post-processor of a tokenizer.json adds.
 * @param ids of all tokens by name.
 * @throws TokenizerInvalidError when a token is unknown; TokenizerUnsupportedError for an unknown type.
 */
export function aroundText(
  part: TokenizerPart | null,
  ids: ReadonlyMap<string, number>,
  where: string,
): { before: number[]; after: number[] } {
  const idOf = (name: string): number => {
    const id = ids.get(name);
    if (id === undefined) throw new TokenizerInvalidError(`The tokenizer puts unknown tokens around a text: ${name}.`, where);
    return id;
  };
  switch (part?.type) {
    case undefined:
    case 'ByteLevel': // adds nothing
      return { before: [], after: [] };
    case 'Sequence': {
      const steps = ((part!['processors'] ?? []) as TokenizerPart[]).map((step) => aroundText(step, ids, where));
      return { before: steps.toReversed().flatMap(({ before }) => before), after: steps.flatMap(({ after }) => after) };
    }
    case 'TemplateProcessing': {
      const items = (part!['single'] ?? []) as TemplateItem[];
      const text = items.findIndex((item) => 'Sequence' in item);
      const idsOf = (some: TemplateItem[]) => some.flatMap((item) => ('SpecialToken' in item ? [idOf(item.SpecialToken.id)] : []));
      return { before: idsOf(items.slice(0, text)), after: idsOf(items.slice(text)) };
    }
    case 'BertProcessing':
    case 'RobertaProcessing':
      return { before: [idOf((part!['cls'] as [string])[0])], after: [idOf((part!['sep'] as [string])[0])] };
    default:
      throw new TokenizerUnsupportedError({
        key: 'post-processor',
        value: part!.type,
        supported: ['ByteLevel', 'Sequence', 'TemplateProcessing', 'BertProcessing', 'RobertaProcessing'],
        where,
      });
  }
}
