import type { CapturedModel } from './capture.ts';
import { CaptureCache, type RecompileRecord } from './capture-cache.ts';

/** The graphs of one region at one bucket. */
export interface RegionForecast {
  readonly region: string;
  /** Distinct graphs that serve the region's modules at this bucket. */
  readonly graphs: number;
  /** How many of these are new: no earlier bucket had them. */
  readonly captures: number;
  /** The reason for each graph after the first: the module that needed it, and the first guard that failed on each earlier graph of this bucket. */
  readonly because: readonly RecompileRecord[];
}

export interface BucketForecast {
  readonly bucket: string;
  readonly regions: readonly RegionForecast[];
}

/** The graphs that a model will capture, as data. */
export interface Forecast {
  /** Graphs of every region over all buckets. */
  readonly graphs: number;
  readonly regions: readonly { readonly region: string; readonly graphs: number }[];
  readonly buckets: readonly BucketForecast[];
}

/**
 * Counts the graphs that a model needs at these buckets, region by region, and tells why. It only captures, and capture reads no values: a model built
 * from its config is enough, once its hooks have run.
 * @param buckets each bucket's name and the value that `capture` takes.
 * @param capture captures the model at one bucket into the cache, e.g. by `captureModel`.
 */
export function predict<Bucket>(
  buckets: Iterable<readonly [name: string, bucket: Bucket]>,
  capture: (bucket: Bucket, cache: CaptureCache) => CapturedModel,
): Forecast {
  const cache = new CaptureCache({ limit: Number.POSITIVE_INFINITY, isFrozen: true });
  const forecasts: BucketForecast[] = [];
  for (const [name, bucket] of buckets) {
    const before = new Map(cache.regions().map((region) => [region, cache.count(region)]));
    const records = cache.recompiles.length;
    const { graph } = capture(bucket, cache);
    const called = new Set(graph.nodes.flatMap((node) => (node.kind === 'region' ? [node.region.name] : [])));
    const regions = cache.regions().flatMap((region): RegionForecast[] => {
      const graphs = cache.list(region).filter((entry) => called.has(entry.region.name)).length;
      const captures = cache.count(region) - (before.get(region) ?? 0);
      const because = cache.recompiles.slice(records).filter((record) => record.region === region);
      return graphs === 0 ? [] : [{ region, graphs, captures, because: among(because, called) }];
    });
    forecasts.push({ bucket: name, regions });
  }
  return { graphs: cache.count(), regions: cache.regions().map((region) => ({ region, graphs: cache.count(region) })), buckets: forecasts };
}

/** A bucket's first graph is needed for the bucket; the others because the modules differ. */
function among(records: readonly RecompileRecord[], serving: ReadonlySet<string>): RecompileRecord[] {
  return records
    .map((record) => ({ ...record, failures: record.failures.filter(({ entry }) => serving.has(entry)) }))
    .filter(({ failures }) => failures.length > 0);
}
