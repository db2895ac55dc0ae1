import { Command } from 'commander';
import { expect, test } from 'vitest';
import { addEngineFlags, engineOptions } from './flags.ts';

const parsed = (...args: string[]): Record<string, unknown> =>
  engineOptions(addEngineFlags(new Command()).parse(args, { from: 'user' }).opts());

test('a flag that is on by default is turned off by --no-…', () => {
  expect(parsed('--no-warm-up')).toEqual({ images: true, warmUp: false });
  expect(parsed()).toEqual({ images: true, warmUp: true });
});

test('platform options are an object, and the recompile policy is one of three words', () => {
  const given = parsed('--platform-options', '{"bucketing": "linear"}', '--on-recompile', 'fail');
  expect(given).toMatchObject({ platformOptions: { bucketing: 'linear' }, onRecompile: 'fail' });
});
