import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterAll, expect, test } from 'vitest';
import { importFailure } from './import-failure.ts';

const folder = mkdtempSync(join(tmpdir(), 'graft-import-'));
afterAll(() => rmSync(folder, { recursive: true }));

/** The error of Node itself, which vitest replaces where it imports. */
function failureOf(type: string, text: string) {
  const file = join(folder, 'plugin.js');
  writeFileSync(join(folder, 'package.json'), JSON.stringify({ type }));
  writeFileSync(join(folder, 'data.js'), 'export const kept = 1;');
  writeFileSync(file, text);
  const url = pathToFileURL(file).href;
  const script = `import(${JSON.stringify(url)}).catch(({ code, message }) => console.log(JSON.stringify({ code, message })))`;
  const { code, message } = JSON.parse(
    execFileSync(process.execPath, ['--input-type=module', '-e', script], { encoding: 'utf8', stdio: 'pipe' }),
  ) as Record<string, string>;
  return importFailure(Object.assign(new Error(message), { code }), url);
}

test('an import in a file that Node reads as CommonJS names the package.json and both corrections', async () => {
  expect(await failureOf('commonjs', "import 'node:fs'; export default 1;")).toEqual({
    reason: `it is read as CommonJS, because ${join(folder, 'package.json')} has no "type": "module".`,
    fix: 'write "type": "module" in that package.json, or name the file plugin.mjs.',
  });
});

test('require in a module is told of import, without the lines that Node adds', async () => {
  const { reason, fix } = await failureOf('module', "require('node:fs');");
  expect(reason).not.toContain('\n');
  expect(fix).toContain('write import and export');
});

test('an unknown export gets a name that is near, and no other name', async () => {
  expect((await failureOf('module', "import { kpet } from './data.js';")).fix).toBe('import "kept" from ./data.js.');
  expect((await failureOf('module', "import { Override } from './data.js';")).fix).toBe('correct the name of the import from ./data.js.');
});
