import { type ExplainContractOptions, explainContract } from '@graft/engine';
import type { Environment } from './config.ts';
import { askedOf } from './flags.ts';
import { defaultPlugins } from './start-engine.ts';
import type { Terminal } from './terminal.ts';

export interface ContractOptions {
  json?: boolean;
  [engineKey: string]: unknown;
}

/** What an override may rely on of an upstream class, to paste into its declaration. No weight is read. */
export async function contract(className: string, { json, ...options }: ContractOptions, environment: Environment, terminal: Terminal) {
  const asked = { className, ...askedOf<Omit<ExplainContractOptions, 'className'>>(options, environment) };
  const { text, record } = await explainContract(asked, defaultPlugins);
  terminal.stdout.write(`${json === true ? JSON.stringify(record, null, 2) : text}\n`);
}
