import {
  type ExplainArchitectureOptions,
  type ExplainPatchesOptions,
  explainArchitecture,
  explainPatches,
  explainServices,
} from '@graft/engine';
import { serverServices } from '../services.ts';
import type { Environment } from './config.ts';
import { askedOf, UsageError } from './flags.ts';
import { defaultPlugins } from './start-engine.ts';
import type { Terminal } from './terminal.ts';

export interface ExplainOptions {
  patches?: boolean;
  services?: boolean;
  json?: boolean;
  [engineKey: string]: unknown;
}

/**
 * Which classes would run an architecture here, and why; with `--patches`, also what its hooks do to a model. With `--services`, who binds
 * each service instead. No weights are read.
 * @throws UsageError for `--patches` without a model, and for neither an architecture nor a model.
 */
export async function explain(
  names: string[],
  { json, patches, services, ...options }: ExplainOptions,
  environment: Environment,
  terminal: Terminal,
) {
  const asked = askedOf<ExplainArchitectureOptions>(options, environment);
  const { text, record } =
    services === true
      ? await explainServices({ ...asked, defaults: serverServices }, defaultPlugins)
      : patches === true
        ? await explainPatches({ ...patched(asked), ...(names[0] !== undefined && { architecture: names[0] }) }, defaultPlugins)
        : await explainArchitecture({ ...asked, ...architecturesFrom(names, asked.model) }, defaultPlugins);
  terminal.stdout.write(`${json === true ? JSON.stringify(record, null, 2) : text.trimEnd()}\n`);
}

function patched({ model, ...asked }: ExplainArchitectureOptions): ExplainPatchesOptions {
  if (model !== undefined) return { ...asked, model };
  throw new UsageError(
    'The hooks of a model run on one that is built from a config; name a folder with config.json, or a .gguf file.',
    '--model',
  );
}

function architecturesFrom(architectures: readonly string[], model: string | undefined): Pick<ExplainArchitectureOptions, 'architectures'> {
  if (architectures.length > 0) return { architectures };
  if (model !== undefined) return {};
  throw new UsageError('Name an architecture, or with --model a checkpoint whose config names it.', 'explain');
}
