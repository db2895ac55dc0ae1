import {
  type ExplainArchitectureOptions,
  type ExplainContractOptions,
  type ExplainGraphsOptions,
  type ExplainModelOptions,
  type ExplainUpstreamOptions,
  explainArchitecture,
  explainContract,
  explainGraphs,
  explainPatches,
  explainPlugins,
  explainServices,
  explainUpstream,
} from '@graft/engine';
import { serverServices } from '../services.ts';
import type { Environment } from './config.ts';
import { askedOf, UsageError } from './flags.ts';
import { askedWithModel } from './models.ts';
import { defaultPlugins } from './start-engine.ts';
import { print, type Terminal } from './terminal.ts';
import { withPackageFolder } from './unpack.ts';

// The commands that print what Graft knows of a model. None reads weights.

interface Printed {
  json?: boolean;
  [engineKey: string]: unknown;
}

export interface ExplainOptions extends Printed {
  patches?: boolean;
  services?: boolean;
}

/**
 * Which classes would run an architecture here, and why; with `--patches`, also the changes of its hooks to a model. With `--services`, who binds
 * each service instead.
 * @throws UsageError for `--patches` without a model, and for neither an architecture nor a model.
 */
export async function explain(
  names: string[],
  { json, patches, services, ...options }: ExplainOptions,
  environment: Environment,
  terminal: Terminal,
) {
  const asked = await askedWithModel<ExplainArchitectureOptions>(options, environment, terminal, false);
  const explained =
    services === true
      ? await explainServices({ ...asked, defaults: serverServices }, defaultPlugins)
      : patches === true
        ? await explainPatches({ ...patched(asked), ...(names[0] !== undefined && { architecture: names[0] }) }, defaultPlugins)
        : await explainArchitecture({ ...asked, ...architecturesFrom(names, asked.model) }, defaultPlugins);
  print(terminal, json, explained);
}

function patched({ model, ...asked }: ExplainArchitectureOptions): ExplainModelOptions {
  if (model !== undefined) return { ...asked, model };
  throw new UsageError('Hooks run on a model that is built from its config. Name a folder with config.json, or a .gguf file.', '--model');
}

function architecturesFrom(architectures: readonly string[], model: string | undefined): Pick<ExplainArchitectureOptions, 'architectures'> {
  if (architectures.length > 0) return { architectures };
  if (model !== undefined) return {};
  throw new UsageError('Name an architecture, or with --model a checkpoint whose config names it.', 'explain');
}

/** The loaded plugins, and what each brings. */
export async function list({ json, ...options }: Printed, environment: Environment, terminal: Terminal) {
  print(terminal, json, await explainPlugins(askedOf(options, environment), defaultPlugins));
}

export interface ContractOptions extends Printed {
  against?: string;
}

/**
 * The parts of an upstream class that an override may rely on, to paste into its declaration. With `--against`, what a plugin relies on, compared with
 * another version of upstream.
 * @returns the exit code: 1 if the other version differs.
 * @throws UsageError for an `--against` that is neither a folder nor a tarball.
 */
export async function contract(name: string, { json, against, ...options }: ContractOptions, environment: Environment, terminal: Terminal) {
  if (against !== undefined) {
    const asked = askedOf<Omit<ExplainUpstreamOptions, 'against' | 'plugin'>>(options, environment);
    const compared = await withPackageFolder(against, (folder) =>
      explainUpstream({ ...asked, plugin: name, against: folder }, defaultPlugins),
    );
    print(terminal, json, compared);
    return compared.record.differences.length === 0 ? 0 : 1;
  }
  const asked = {
    className: name,
    ...(await askedWithModel<Omit<ExplainContractOptions, 'className'>>(options, environment, terminal, false)),
  };
  print(terminal, json, await explainContract(asked, defaultPlugins));
  return 0;
}

export interface GraphsOptions extends Printed {
  buckets?: string;
  why?: string;
}

/**
 * How many graphs a model will capture, and why.
 * @throws UsageError without a model, and for buckets or layers that cannot be read.
 */
export async function graphs({ json, buckets, why, ...options }: GraphsOptions, environment: Environment, terminal: Terminal) {
  const { model, ...asked } = await askedWithModel<Partial<ExplainGraphsOptions>>(options, environment, terminal, false);
  if (model === undefined) throw new UsageError('Name a folder with config.json, or a .gguf file.', '--model');
  const graphsOf = {
    ...asked,
    model,
    ...(buckets !== undefined && { buckets: buckets.split(',').map(bucketOf) }),
    ...(why !== undefined && { why: layersOf(why) }),
  };
  print(terminal, json, await explainGraphs(graphsOf, defaultPlugins));
}

function bucketOf(text: string): { batch: number; sequence: number } {
  const [, batch, sequence] = /^([1-9]\d*)x([1-9]\d*)$/.exec(text.trim()) ?? [];
  if (batch === undefined) throw new UsageError(`"${text}" is not a bucket. Write sequences x tokens, such as 1x128.`, '--buckets');
  return { batch: Number(batch), sequence: Number(sequence) };
}

function layersOf(text: string): [number, number] {
  const [, a, b] = /^(\d+),(\d+)$/.exec(text) ?? [];
  if (a === undefined) throw new UsageError(`"${text}" does not name two layers, such as 3,4.`, '--why');
  return [Number(a), Number(b)];
}
