import type { LanguageModel } from '@graft/core-model';
import { CaptureCache, diffGuards, type Forecast, type GuardFailure, predict } from '@graft/graph';
import { EngineConfigError } from './errors.ts';
import { buildToExplain, type ExplainModelOptions, type Explanation } from './explain.ts';
import { type GraphKind, graphKindLines, graphKinds } from './graph-kinds.ts';
import { captureLanguageModel, type StepShape } from './runner/capture-model.ts';
import type { StartOptions } from './start-engine.ts';

export interface ExplainGraphsOptions extends ExplainModelOptions {
  /** Static shapes. Default: one graph for any shape, as on a platform without buckets. */
  buckets?: readonly StepShape[];
  /** Numbers of two layers to compare. */
  why?: readonly [number, number];
}

const anyShape = 'any shape';

/** `graphs --json`. */
export interface GraphsRecord {
  readonly architecture: string;
  readonly modelClass: string;
  readonly platform: string;
  readonly mode: string;
  readonly forecast: Forecast;
  /** The kinds of modules at any shape. Each bucket has one graph per kind; the layers of a kind share it. */
  readonly kinds: readonly GraphKind[];
  /** Why the two named layers need two graphs. No differences: they share one. Null if no layers were named. */
  readonly why: { readonly a: string; readonly b: string; readonly differences: readonly GuardFailure[] } | null;
}

/**
 * How many graphs a model will capture, and why. The model is built from its config, its init hooks run, and `forward` is captured at each bucket. No
 * weight is read and nothing is compiled. Post-load hooks need weights and do not run.
 * @throws EngineConfigError for an unknown layer; the errors of reading the config, resolving, building and capture.
 */
export async function explainGraphs(asked: ExplainGraphsOptions, options: StartOptions = {}): Promise<Explanation<GraphsRecord>> {
  const { buckets = [], why } = asked;
  const { resolution, model, context } = await buildToExplain(asked, options);
  const shapes: [string, StepShape | undefined][] =
    buckets.length === 0 ? [[anyShape, undefined]] : buckets.map((shape) => [`${shape.batch}x${shape.sequence}`, shape]);
  const record: GraphsRecord = {
    architecture: resolution.architecture,
    modelClass: model.constructor.name,
    platform: context.platform,
    mode: context.mode,
    forecast: predict(shapes, (shape, cache) => captureLanguageModel(model, cache, shape)),
    kinds: graphKinds(model),
    why: why === undefined ? null : compareLayers(model, why),
  };
  return { text: textOf(record), record };
}

function compareLayers(model: LanguageModel, layers: readonly [number, number]): NonNullable<GraphsRecord['why']> {
  const captured = captureLanguageModel(model, new CaptureCache());
  const paths = captured.graph.nodes.flatMap((node) => (node.kind === 'region' ? [node.path] : []));
  const [a, b] = layers.map((layer) => {
    const path = paths.find((candidate) => candidate.endsWith(`.${layer}`));
    if (path !== undefined) return path;
    throw new EngineConfigError(`The model has no layer ${layer}; it has ${paths.length}, counted from 0.`, '--why');
  }) as [string, string];
  return { a, b, differences: diffGuards(captured, a, b) };
}

function textOf({ architecture, modelClass, platform, mode, forecast, kinds, why }: GraphsRecord): string {
  const lines = [`${graphs(forecast.graphs)} to capture: ${architecture} as ${modelClass} (platform "${platform}", mode "${mode}")`];
  const buckets = forecast.buckets.filter(({ bucket }) => bucket !== anyShape); // whose graphs are the kinds
  if (buckets.length > 0) for (const { region, graphs: count } of forecast.regions) lines.push(`${region}: ${graphs(count)}`);
  for (const { bucket, regions } of buckets) {
    for (const { region, graphs: serving, captures, because } of regions) {
      lines.push(`  ${bucket}: ${region} ${serving}${captures < serving ? `, ${captures} of them new` : ''}`);
      for (const { path, failures } of because) {
        lines.push(`    ${path} needs another:`);
        lines.push(...failures.map(({ path: at, expected, actual, entry }) => `      ${at} is ${actual}, and ${expected} in ${entry}`));
      }
    }
  }
  lines.push('kinds, at any shape:', ...graphKindLines(kinds).map((line) => `  ${line}`));
  if (why !== null) {
    lines.push(why.differences.length === 0 ? `${why.a} and ${why.b} share a graph` : `${why.a} and ${why.b} differ in`);
    for (const { path, expected, actual } of why.differences) lines.push(`  ${path}: ${expected}, ${actual}`);
  }
  return lines.join('\n');
}

function graphs(count: number): string {
  return count === 1 ? '1 graph' : `${count} graphs`;
}
