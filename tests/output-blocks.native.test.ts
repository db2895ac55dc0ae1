// Pages show what commands print: a block that begins with `$ npx graft` holds a command and its output, which are compared here.
import { execFile } from 'node:child_process';
import { delimiter, join } from 'node:path';
import { promisify } from 'node:util';
import { expect, test } from 'vitest';
import { filesUnder, readText, root } from './sources.ts';

const pages = ['README.md', ...filesUnder('docs', /\.md$/)];
const blocks = pages.flatMap((page) =>
  [...readText(page).matchAll(/^```\w*\n\$ (npx graft .*)\n([\s\S]*?)^```/gm)].map(([, command, output]) => ({ page, command, output })),
);

test('README shows the output of graft explain, and of graft graphs before and after overrides', () => {
  const shown = blocks.filter(({ page }) => page === 'README.md').map(({ command }) => command!.split(' ')[2]);
  expect(shown).toEqual(['graphs', 'graphs', 'explain']);
});

test.each(blocks)('$page shows the output of $command', async ({ command, output }) => {
  const { GRAFT_PLUGINS: _, ...environment } = process.env;
  const PATH = [join(root, 'node_modules/.bin'), process.env['PATH']].join(delimiter);
  const { stdout } = await promisify(execFile)('sh', ['-c', command!], { cwd: root, env: { ...environment, PATH } });
  expect(stdout).toBe(output);
});
