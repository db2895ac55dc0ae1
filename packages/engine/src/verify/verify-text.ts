import type { PatchGroup } from '@graft/registry';
import { graphKindLines } from '../graph-kinds.ts';
import type { VerifiedModel, VerifyRecord } from '../verify.ts';
import type { Difference, LayerDifference } from './compare-runs.ts';

/** The record as a table to read. */
export function verifyText(record: VerifyRecord): string {
  const { architecture, platform, mode, device, weights, promptIds, upstream, override } = record;
  return [
    `${architecture} (platform "${platform}", mode "${mode}"): ${override.modelClass ?? 'the override'} against ${upstream.modelClass ?? 'upstream'}`,
    `device: ${device}`,
    `weights: ${weights}`,
    `tokens: a prompt of ${promptIds.length}, and upstream's greedy answer to it`,
    '',
    ...table([
      ['', 'upstream', 'override'],
      ['class', upstream.modelClass ?? '-', override.modelClass ?? '-'],
      ['kinds of layers', String(upstream.kinds.length), String(override.kinds.length)],
      ['graphs captured', String(upstream.captures), String(override.captures)],
      ['graphs compiled', String(upstream.compiles), String(override.compiles)],
      ['patches, read by forward', patchCount(upstream), patchCount(override)],
      ['seconds', upstream.seconds.toFixed(1), override.seconds.toFixed(1)],
    ]),
    ...kindsText('upstream', upstream),
    ...kindsText('override', override),
    ...patchesText(override.patches),
    ...failureText('upstream', upstream),
    ...failureText('override', override),
    ...(record.verdict === 'failed' ? [] : comparisonText(record)),
    ...(record.problems.length === 0 ? [] : ['', 'problems:', ...record.problems.map((problem) => `  ${problem}`)]),
    '',
    verdictText(record),
  ].join('\n');
}

function patchCount({ patches }: VerifiedModel): string {
  const count = patches.reduce((sum, group) => sum + group.count, 0);
  const read = patches.reduce((sum, group) => sum + (group.read ?? 0), 0);
  return count === 0 ? '0' : `${count}, ${read}`;
}

function kindsText(which: string, { kinds }: VerifiedModel): string[] {
  return kinds.length === 0 ? [] : ['', `kinds of layers, ${which}:`, ...graphKindLines(kinds).map((line) => `  ${line}`)];
}

function patchesText(patches: readonly PatchGroup[]): string[] {
  if (patches.length === 0) return [];
  const lines = patches.map(
    ({ count, operation, target, detail, hook, reason }) =>
      `  ${count} x ${operation} of ${target}: ${detail} (${hook})${reason === null ? '' : `; ${reason}`}`,
  );
  return ['', 'patches of the override:', ...lines];
}

function failureText(which: string, { failure }: VerifiedModel): string[] {
  if (failure === null) return [];
  const { what, where, fix, code } = failure.error;
  const facts = [where === null ? [] : [`  where: ${where}`], fix === null ? [] : [`  fix: ${fix}`], [`  code: ${code}`]].flat();
  return ['', `${which} failed at step ${failure.step}: ${what}`, ...facts];
}

function comparisonText({ layers, logits, upstream, override, ids }: VerifyRecord): string[] {
  const row = (name: string, { difference, largest, relative, position, within }: Difference): string[] => [
    name,
    difference === null ? 'not a number' : scientific(difference),
    scientific(largest),
    relative === null ? '-' : scientific(relative),
    difference === 0 ? '' : String(position),
    within ? '' : 'over',
  ];
  return [
    '',
    ...table([
      ['residual stream after', 'difference', 'of at most', 'relative', 'at token', ''],
      ...layers.map((layer) => row(placeOf(layer.layer), layer)),
      ...(logits === null ? [] : [row('the logits', logits)]),
    ]),
    '',
    `greedy ids, upstream: ${upstream.tokenIds.join(' ')}`,
    `greedy ids, override: ${ids?.equal === true ? 'the same' : override.tokenIds.join(' ')}`,
  ];
}

function verdictText({ verdict, firstOver, logits, tolerance, ids }: VerifyRecord): string {
  if (verdict === 'failed') return 'FAILED: nothing could be compared.';
  if (verdict === 'unproven') return 'UNPROVEN: the numbers are equal, but the problems above show that this proves little.';
  if (verdict === 'equal') return `EQUAL: every layer and the logits within ${scientific(tolerance)}, and the same greedy ids.`;
  const reasons = [
    ...(firstOver === null ? [] : [`${placeOf(firstOver)} is the first over ${scientific(tolerance)}`]),
    ...(firstOver === null && logits?.within === false ? [`only the logits are over ${scientific(tolerance)}`] : []),
    ...(ids?.equal === false ? [idsText(ids.firstDifferent!, ids.margin)] : []),
  ];
  return `DIFFERS: ${reasons.join('; ')}.`;
}

function placeOf(layer: LayerDifference['layer']): string {
  return typeof layer === 'number' ? `layer ${layer}` : `the ${layer}`;
}

function idsText(at: number, margin: number | null): string {
  const lead = margin === null ? '' : ` (where upstream's token leads by ${scientific(margin)})`;
  return `greedy ids differ from token ${at} of the answer on${lead}`;
}

function scientific(value: number): string {
  return value === 0 ? '0' : value.toExponential(1);
}

function table(rows: readonly (readonly string[])[]): string[] {
  const widths = (rows[0] ?? []).map((_, column) => Math.max(...rows.map((row) => row[column]!.length)));
  return rows.map((row) =>
    row
      .map((cell, column) => (column === 0 ? cell.padEnd(widths[0]!) : cell.padStart(widths[column]!)))
      .join('  ')
      .trimEnd(),
  );
}
