import { openCheckpoint } from '@graft/core-model';
import { openModelText } from '../../packages/engine/src/text/model-text.ts';
import type { ReferenceCase } from './reference-case.ts';
import type { CaseReport } from './run-case.ts';

/** The ids of a case's texts, without the tokens that the tokenizer puts before and after. */
export async function compareTexts({ name, model, texts }: ReferenceCase): Promise<CaseReport> {
  using checkpoint = await openCheckpoint(model);
  const { tokenizer } = await openModelText(checkpoint);
  const wrong = texts.filter(({ text, ids }) => String(tokenizer?.encode(text, { addSpecialTokens: false })) !== String(ids));
  const first = wrong[0] === undefined ? '' : `; the first is ${JSON.stringify(wrong[0].text)}`;
  const line = `${wrong.length === 0 ? 'ok  ' : 'FAIL'} ${name} texts: ${texts.length - wrong.length} of ${texts.length} have the reference's ids${first}`;
  return { passed: wrong.length === 0, line };
}
