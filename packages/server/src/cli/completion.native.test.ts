// Each shell runs the script for real, with the command on the PATH. bash is on every machine that tests; zsh and fish are tried where they are installed.
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, symlinkSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, expect, test } from 'vitest';
import { bin } from '../../test/graft-process.ts';

const folder = mkdtempSync(join(tmpdir(), 'graft-completion-'));
symlinkSync(bin, join(folder, 'graft'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const typed = [
  ['se'],
  ['serve', '--allow-pri'],
  ['serve', '--log-level', 'w'],
  ['serve', '--weights', 'float'],
  ['new', ''],
  ['new', 'plugin', ''],
  ['serve', '--model', 'mod'],
];
const expected = [['serve'], ['--allow-private-image-hosts'], ['warn'], ['float32'], ['plugin', 'backend', 'model'], ['FILES'], ['FILES']];

/** How a shell prints the candidates for these words. Where it has none, it offers paths: `FILES` here. */
const shells = {
  bash: (words: string[]) => `COMP_WORDS=(graft ${quoted(words)}) COMP_CWORD=${words.length} COMPREPLY=()
    _graft_complete graft; printf '%s ' "\${COMPREPLY[@]:-FILES}"; echo`,
  zsh: (words: string[]) => `words=(graft ${quoted(words)}) CURRENT=${words.length + 1}; _graft_complete; echo`,
  fish: (words: string[]) => `for each in (complete -C "graft ${words.join(' ')}")
    string split -f 1 \\t $each
  end | string join ' '`,
};
const setUp = {
  bash: 'source <(graft completion bash); complete -p graft >&2',
  zsh: `compdef() { }; _files() { print -n FILES }; _describe() { print -n -- "\${\${(P)2}%%:*}" }; source <(graft completion zsh)`,
  fish: 'graft completion fish | source; function __fish_complete_path; echo FILES; end',
};
const quoted = (words: string[]) => words.map((word) => `'${word}'`).join(' ');

function runsIn(shell: keyof typeof shells, script: string): string {
  const env = { ...process.env, PATH: `${folder}:${process.env['PATH']}`, HOME: folder };
  return execFileSync(shell, { input: script, env, encoding: 'utf8', stdio: ['pipe', 'pipe', 'pipe'] });
}

function isInstalled(shell: string): boolean {
  try {
    return execFileSync(shell, ['--version']).length > 0;
  } catch {
    return false;
  }
}

const names = Object.keys(shells) as (keyof typeof shells)[];

test.each(names)('%s completes commands, flags, choices and paths', (shell) => {
  if (shell !== 'bash' && !isInstalled(shell)) return;
  const lines = runsIn(shell, [setUp[shell], ...typed.map(shells[shell])].join('\n'))
    .trim()
    .split('\n');
  expect(lines.map((line) => line.trim().split(' ').sort())).toEqual(expected.map((words) => [...words].sort()));
});

test('bash completes the value of a flag after "="', () => {
  const lines = runsIn(
    'bash',
    [
      setUp.bash,
      ...[
        ['serve', '--log-level', '=', 'w'],
        ['serve', '--log-level', '='],
      ].map(shells.bash),
    ].join('\n'),
  );
  expect(lines.trim().split('\n')[0]!.trim()).toBe('warn');
  expect(lines).toContain('silent fatal error');
});
