import { GraftError, graftError } from '@graft/common';
import type { ContractReport } from './contract.ts';
import { quotedList } from './names.ts';
import { ownerText } from './registration.ts';

/** Upstream moved: it no longer has what an override says it relies on. */
export class ContractBrokenError extends GraftError {
  /** One report an override whose contract is broken. */
  readonly reports: readonly ContractReport[];

  constructor(reports: readonly ContractReport[], cause?: unknown) {
    const lines = reports.flatMap(({ breaches }) => breaches.map(({ text }) => `\n    ${text}`));
    const names = [...new Set(reports.map(({ className }) => className))];
    super({
      code: 'GRAFT_CONTRACT_BROKEN',
      what: `${reports.length === 1 ? 'An override' : `${reports.length} overrides`} of ${names.join(' and ')} ${reports.length === 1 ? 'relies' : 'rely'} on what the base no longer has:${lines.join('')}\n  No weight was read.`,
      where: reports.map(({ owner }) => ownerText(owner)).join(' and '),
      fix: `adapt the override to what upstream has now, then its reliesOn; \`graft contract ${names[0]}\` prints the class as it is.`,
      ...(cause === undefined ? {} : { cause }),
    });
    this.reports = reports;
  }
}

/** A contract was asked for of a class that no manifest and no architecture has. */
export class UnknownClassError extends graftError(
  'GRAFT_UNKNOWN_CLASS',
  (name: string, { nearest, manifests }: { nearest: readonly string[]; manifests: readonly string[] }) => ({
    what: `No upstream class or architecture is named "${name}".`,
    where: manifests.length === 0 ? 'no loaded plugin has a manifest' : `manifests of plugins ${quotedList(manifests, 'none', 'and')}`,
    fix: nearest.length === 0 ? 'load a plugin that brings upstream models.' : `did you mean ${quotedList(nearest)}?`,
  }),
) {}
