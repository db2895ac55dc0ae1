import type { ProbedDevice } from '@graft/ggml';
import { describeIssue } from '@graft/registry';
import { z } from 'zod';
import { GpuOptionError } from './errors.ts';

/** The `platformOptions` of the platforms of GPUs. */
export const GpuOptions = z.strictObject({
  device: z.int().nonnegative().exactOptional().describe('The number of the GPU, from 0. Default: the first one that computes.'),
});
export type GpuOptions = z.output<typeof GpuOptions>;

/** @throws GpuOptionError for an unknown option or a wrong value */
export function parseGpuOptions(given: Readonly<Record<string, unknown>>): GpuOptions {
  const parsed = GpuOptions.safeParse(given);
  if (parsed.success) return parsed.data;
  const { what, where, fix = 'see the README of @graft/gpu for what it takes.' } = describeIssue(parsed.error, GpuOptions);
  throw new GpuOptionError(what, where === '' ? 'platformOptions' : `platformOptions.${where}`, fix);
}

/** The device that the options name, of those that the probe found. @throws GpuOptionError */
export function deviceOf<D extends Pick<ProbedDevice, 'description' | 'fault'>>({ device }: GpuOptions, found: readonly D[]): D {
  const place = 'platformOptions.device';
  const usable = found.flatMap(({ description, fault }, i) => (fault === null ? [`${i} (${description})`] : []));
  const chosen = device === undefined ? found.find(({ fault }) => fault === null) : found[device];
  const fix = `choose ${usable.join(' or ')}.`;
  if (chosen === undefined) throw new GpuOptionError(`Device ${device ?? 0} is unknown; ${found.length} are here.`, place, fix);
  if (chosen.fault !== null)
    throw new GpuOptionError(`Device ${device} (${chosen.description}) cannot compute: ${chosen.fault}`, place, fix);
  return chosen;
}
