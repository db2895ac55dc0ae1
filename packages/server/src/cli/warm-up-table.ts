import type { EngineInfo } from '@graft/engine';

type WarmUp = NonNullable<EngineInfo['warmUp']>;

/** The graphs of a warm-up as a table for the terminal. The last line is the sum. */
export function warmUpTable({ rows, captured, optimised, fromRecipes, seconds }: WarmUp): string {
  const cells = [
    ['warm-up', 'buckets', 'graphs', 'seconds', 'padding at most'],
    ...rows.map((row) => [row.kind, String(row.buckets), String(row.graphs), row.seconds.toFixed(1), percent(row.padding)]),
  ];
  const widths = cells[0]!.map((_, column) => Math.max(...cells.map((row) => row[column]!.length)));
  const lines = cells.map((row) => row.map((cell, i) => (i === 0 ? cell.padEnd(widths[i]!) : cell.padStart(widths[i]!))).join('  '));
  return `${[...lines, `${captured} captured, ${optimised} optimised, ${fromRecipes} from recipes, ${seconds.toFixed(1)} s`].join('\n')}\n`;
}

function percent(part: number | null): string {
  return part === null ? '-' : `${Math.round(part * 100)} %`;
}
