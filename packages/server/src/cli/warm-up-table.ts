import type { EngineInfo } from '@graft/engine';
import { aligned } from './terminal.ts';

type WarmUp = NonNullable<EngineInfo['warmUp']>;

/** The graphs of a warm-up as a table for the terminal. The last line is the sum. */
export function warmUpTable({ rows, captured, optimised, fromRecipes, seconds }: WarmUp): string {
  const cells = [
    ['warm-up', 'buckets', 'graphs', 'seconds', 'padding at most'],
    ...rows.map((row) => [row.kind, String(row.buckets), String(row.graphs), row.seconds.toFixed(1), percent(row.padding)]),
  ];
  const sum = `${captured} captured, ${optimised} optimised, ${fromRecipes} from recipes, ${seconds.toFixed(1)} s`;
  return `${aligned(cells, (column) => column > 0)}\n${sum}\n`;
}

function percent(part: number | null): string {
  return part === null ? '-' : `${Math.round(part * 100)} %`;
}
