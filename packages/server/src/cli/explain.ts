import { explainArchitecture, explainPatches } from '@graft/engine';
import type { Environment } from './config.ts';
import { UsageError } from './flags.ts';
import { defaultPlugins } from './start-engine.ts';
import type { Terminal } from './terminal.ts';

export interface ExplainOptions {
  platform?: string;
  mode?: string;
  app?: string;
  plugins?: string[];
  allowPlugins?: string[];
  model?: string;
  configOverrides?: Record<string, unknown>;
  overrideOptions?: Record<string, unknown>;
  patches?: boolean;
  json?: boolean;
}

/**
 * Which class would run an architecture here, and why; with `--patches`, also what its hooks do to a model. No weights are read.
 * @throws UsageError for `--patches` without a model, and for neither an architecture nor a model.
 */
export async function explain(
  names: string[],
  { json, patches, model, configOverrides, ...options }: ExplainOptions,
  environment: Environment,
  terminal: Terminal,
) {
  const { allowPlugins } = environment;
  const architectures = names.length === 0 ? {} : { architectures: names };
  const asked = { ...architectures, ...(allowPlugins === undefined ? {} : { allowPlugins }), ...options };
  const { text, record } =
    patches === true
      ? await explainPatches({ ...asked, model: modelOf(model), ...(configOverrides && { configOverrides }) }, defaultPlugins)
      : await explainArchitecture({ ...asked, ...architecturesFrom(names, model) }, defaultPlugins);
  terminal.stdout.write(`${json === true ? JSON.stringify(record, null, 2) : text.trimEnd()}\n`);
}

function modelOf(model: string | undefined): string {
  if (model !== undefined) return model;
  throw new UsageError(
    'The hooks of a model run on one that is built from a config; name a folder with config.json, or a .gguf file.',
    '--model',
  );
}

function architecturesFrom(names: readonly string[], model: string | undefined): { model?: string } {
  if (model !== undefined) return { model };
  if (names.length > 0) return {};
  throw new UsageError('Name an architecture, or with --model a checkpoint whose config names it.', 'explain');
}
