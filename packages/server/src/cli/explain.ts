import { explainArchitecture } from '@graft/engine';
import type { Environment } from './config.ts';
import { defaultPlugins } from './start-engine.ts';
import type { Terminal } from './terminal.ts';

export interface ExplainOptions {
  platform?: string;
  app?: string;
  plugins?: string[];
  allowPlugins?: string[];
  json?: boolean;
}

/** Which class would run an architecture here, and why. No model is loaded. */
export async function explain(architectures: string[], { json, ...options }: ExplainOptions, environment: Environment, terminal: Terminal) {
  const { allowPlugins } = environment;
  const asked = { architectures, ...(allowPlugins === undefined ? {} : { allowPlugins }), ...options };
  const { text, record } = await explainArchitecture(asked, defaultPlugins);
  terminal.stdout.write(`${json === true ? JSON.stringify(record, null, 2) : text.trimEnd()}\n`);
}
