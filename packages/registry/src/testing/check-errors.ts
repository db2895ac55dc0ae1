import { GraftError, graftError } from '@graft/common';
import type { CheckRecord } from './check-plugin.ts';
import type { CheckTarget } from './subject.ts';

const mostNamed = 10;

export function targetText({ architecture, platform, mode }: CheckTarget): string {
  return `${architecture} on ${platform} (${mode})`;
}

/** The plugin does not touch what was to be checked: every check would pass, whatever the plugin does. */
export class CheckTargetError extends graftError('GRAFT_CHECK_TARGET', (plugin: string, problem: string, fix: string) => ({
  what: `Plugin "${plugin}" cannot be checked: ${problem}.`,
  where: `plugin "${plugin}"`,
  fix,
})) {}

const failures = {
  GRAFT_CHECK_PARAMETERS: {
    says: "The model's parameters differ from upstream's",
    fix: 'build the same parameters under the same names, so that a checkpoint fits; rename in a postLoad hook.',
  },
  GRAFT_CHECK_REPEAT: {
    says: 'A phase did not do the same to a second model',
    fix: 'keep no state between models: a hook reads the model and its context only.',
  },
  GRAFT_CHECK_UNDO: {
    says: 'After a phase was undone, the model is not as it was',
    fix: 'make every change of the model through the `patches` that the hook is given.',
  },
  GRAFT_CHECK_CLASSES: {
    says: 'Classes changed, for every model of the process',
    fix: 'change instances through the `patches` that the hook is given, or override the class.',
  },
  GRAFT_CHECK_SHARED: {
    says: 'Two copies of the model in one process share parts',
    fix: 'make each in the constructor, in the hook, or in the function given to toDynamicValue; not at the top of a module.',
  },
  GRAFT_CHECK_RELOAD: {
    says: 'A reload was not shown to equal a fresh load of the same checkpoint',
    fix: 'say on each postLoad hook what a reload does with it, and keep nothing that was computed from weights.',
  },
} as const;

export class CheckFailedError extends GraftError {
  constructor(code: keyof typeof failures, where: string, problems: readonly string[]) {
    const { says, fix } = failures[code];
    const more = problems.length > mostNamed ? `; and ${problems.length - mostNamed} more` : '';
    super({ code, what: `${says}: ${problems.slice(0, mostNamed).join('; ')}${more}.`, where, fix });
  }
}

/** At least one property does not hold. `records` has them all. */
export class PluginCheckFailedError extends GraftError {
  readonly records: readonly CheckRecord[];

  constructor(plugin: string, records: readonly CheckRecord[], table: string) {
    const failed = records.filter(({ outcome }) => outcome === 'failed');
    super({
      code: 'GRAFT_CHECK_FAILED',
      what: `${failed.length} of ${records.length} checks of plugin "${plugin}" failed:\n${table}`,
      where: `plugin "${plugin}"`,
      fix: 'correct the rows marked "failed"; each gives the code of its error.',
      cause: failed[0]?.error,
    });
    this.records = records;
  }
}
