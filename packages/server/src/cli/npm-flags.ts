import { quotedList } from '@graft/common';
import type { Command } from 'commander';
import type { Environment } from './config.ts';
import { UsageError } from './flags.ts';

/**
 * npm keeps the flags that stand before `--` for itself: `npm start --port=80` sets `npm_config_port`. Names that npm has too are left out.
 * @throws UsageError with the command that was meant.
 */
export function refuseNpmFlags(root: Command, args: readonly string[], { variables }: Environment): void {
  const command = root.commands.find((each) => each.name() === args[0]);
  if (variables['npm_lifecycle_event'] !== 'start' || command === undefined) return;
  const kept = command.options.flatMap((option) => {
    const value = option.long === '--json' ? undefined : variables[`npm_config_${option.name().replace(/^no-/, '').replaceAll('-', '_')}`];
    return value === undefined ? [] : [{ option, value: value === 'true' || value === '' ? null : value }];
  });
  if (kept.length === 0) return;
  const words = args.filter((word, i) => i > 0 && !word.startsWith('-') && !args[i - 1]!.startsWith('-'));
  const flags = kept.map(({ option, value }) => {
    // npm gives the value of `--port 80` as a separate word. With two flags, it does not say which flag the word belongs to.
    const given = value ?? (kept.length === 1 && words.length === 1 ? words[0]! : null);
    return !option.required ? option.long! : given === null ? option.flags : `${option.long} ${given.replaceAll('\n\n', ',')}`;
  });
  const names = quotedList(kept.map(({ option }) => option.long!));
  throw new UsageError(
    `npm keeps flags for itself unless "--" stands before them: ${names}.`,
    'npm start',
    `npm start -- ${flags.join(' ')}`,
  );
}
