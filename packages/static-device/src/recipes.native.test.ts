import { spawnSync } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { CapturedModel } from '@graft/graph';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { buckets, captureBucket, type OpenedCase, openCase, scaleWeights, someSteps } from './device-model.fixture.ts';
import { EmulatedBackend, type StaticMode } from './emulated-backend.ts';
import type { EmulatedProgram } from './emulated-program.ts';

let directory = '';
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'graft-recipes-'));
});
afterEach(() => rmSync(directory, { recursive: true, force: true }));

interface Started {
  readonly program: EmulatedProgram;
  readonly captures: number;
}

/** Opens a program and adds all buckets, as a start of the engine does. */
async function start(
  opened: OpenedCase,
  { mode = 'compile', kvSlots = 3 }: { mode?: StaticMode; kvSlots?: number } = {},
): Promise<Started> {
  const backend = new EmulatedBackend({ mode, threads: 1 });
  const program = await backend.open(opened.model, { bindRuntimeInput: opened.bindRuntimeInput, kvSlots, recipeDirectory: directory });
  let captures = 0;
  const capture = (bucket: string): CapturedModel => {
    captures += 1;
    return captureBucket(opened, bucket);
  };
  for (const bucket of buckets) await program.add(bucket, () => capture(bucket));
  return { program, captures };
}

async function logitsOf(program: EmulatedProgram, opened: OpenedCase): Promise<number[][]> {
  const rows: number[][] = [];
  for (const { bucket, ...step } of someSteps(opened)) rows.push([...((await program.run(bucket, step))['logits']!.data as Float32Array)]);
  return rows;
}

const onlyFolder = (): string => join(directory, readdirSync(directory).find((name) => /^[0-9a-f]{40}$/.test(name))!);

describe.each(['compile', 'lazy'] as const)('mode %s', (mode) => {
  test.each(['maverick-tiny', 'vision-tiny'])(
    'a second start of %s captures and optimises nothing, and gives the very same numbers',
    async (name) => {
      const first = await openCase(name);
      const { program, captures } = await start(first, { mode });
      const logits = await logitsOf(program, first);
      expect([captures, program.facts.recipes, program.facts.optimisations]).toEqual([4, 0, program.facts.graphs]);
      program[Symbol.dispose]();

      const again = await openCase(name);
      const second = await start(again, { mode });
      using restarted = second.program;
      expect([second.captures, restarted.facts.recipes, restarted.facts.optimisations]).toEqual([0, 4, 0]);
      expect(restarted.facts.graphs).toBe(program.facts.graphs);
      expect(await logitsOf(restarted, again)).toEqual(logits);
    },
  );
});

test('other weights use the same recipes', async () => {
  const first = await openCase('scout-tiny');
  (await start(first)).program[Symbol.dispose]();
  const other = await openCase('scout-tiny');
  scaleWeights(other, 1.25);
  const { program, captures } = await start(other);
  expect([captures, program.facts.optimisations]).toEqual([0, 0]);
  const logits = await logitsOf(program, other);
  program[Symbol.dispose]();
  rmSync(directory, { recursive: true });
  const fresh = await start(other);
  expect(fresh.captures).toBe(4);
  expect(await logitsOf(fresh.program, other)).toEqual(logits);
  fresh.program[Symbol.dispose]();
});

test('a new bucket is compiled, and reuses the graphs of kept buckets', async () => {
  const opened = await openCase('dense-tiny');
  (await start(opened)).program[Symbol.dispose]();
  const [folder] = [onlyFolder()];
  rmSync(join(folder, '2x1.json'));
  const { program, captures } = await start(opened);
  using _ = program;
  expect([captures, program.facts.recipes, program.facts.optimisations]).toEqual([1, 3, 4]); // the four graphs of batch 2
  expect(existsSync(join(folder, '2x1.json'))).toBe(true);
});

describe('a damaged recipe is compiled again', () => {
  const damage: [string, (folder: string) => void][] = [
    ['a plan cut short', (folder) => writeFileSync(join(folder, '1x1.json'), readFileSync(join(folder, '1x1.json')).subarray(0, 500))],
    [
      'a plan with another number in it',
      (folder) => writeFileSync(join(folder, '1x1.json'), readFileSync(join(folder, '1x1.json'), 'utf8').replace('32', '31')),
    ],
    ["another bucket's plan", (folder) => writeFileSync(join(folder, '1x1.json'), readFileSync(join(folder, '1x8.json')))],
    ['a file that is not JSON', (folder) => writeFileSync(join(folder, '1x1.json'), 'recipe')],
    [
      'graphs with one byte changed',
      (folder) => {
        for (const name of readdirSync(folder).filter((each) => each.endsWith('.onnx'))) {
          const bytes = readFileSync(join(folder, name));
          bytes[bytes.length >> 1]! ^= 1;
          writeFileSync(join(folder, name), bytes);
        }
      },
    ],
    [
      'missing graphs',
      (folder) => {
        for (const name of readdirSync(folder).filter((each) => each.endsWith('.onnx'))) rmSync(join(folder, name));
      },
    ],
  ];
  test.each(damage)('%s', async (_, harm) => {
    const opened = await openCase('dense-tiny');
    const { program } = await start(opened);
    const logits = await logitsOf(program, opened);
    program[Symbol.dispose]();
    harm(onlyFolder());
    const repaired = await start(opened);
    expect(repaired.captures).toBeGreaterThan(0);
    expect(await logitsOf(repaired.program, opened)).toEqual(logits);
    repaired.program[Symbol.dispose]();
    const whole = await start(opened);
    expect([whole.captures, whole.program.facts.optimisations]).toEqual([0, 0]);
    whole.program[Symbol.dispose]();
    expect(readdirSync(onlyFolder()).filter((name) => name.endsWith('.tmp'))).toEqual([]);
  });
});

test('two programs that write the same recipes at the same time both work, and leave whole recipes', async () => {
  const opened = await Promise.all([openCase('scout-tiny'), openCase('scout-tiny')]);
  const started = await Promise.all(opened.map((each) => start(each)));
  const [one, two] = [await logitsOf(started[0]!.program, opened[0]), await logitsOf(started[1]!.program, opened[1])];
  expect(one).toEqual(two);
  for (const { program } of started) program[Symbol.dispose]();
  const { program, captures } = await start(opened[0]);
  using _ = program;
  expect(captures).toBe(0);
  expect(await logitsOf(program, opened[0])).toEqual(one);
});

test('an aborted compilation leaves no file', async () => {
  const opened = await openCase('dense-tiny');
  using program = await new EmulatedBackend({ mode: 'compile', threads: 1 }).open(opened.model, {
    bindRuntimeInput: opened.bindRuntimeInput,
    kvSlots: 1,
    recipeDirectory: directory,
  });
  const stop = new AbortController();
  const adding = program.add(
    '1x1',
    () => {
      stop.abort(new Error('enough'));
      return captureBucket(opened, '1x1');
    },
    stop.signal,
  );
  await expect(adding).rejects.toThrow('enough');
  expect(readdirSync(onlyFolder())).toEqual([]);
  expect([program.has('1x1'), program.hasRecipe('1x1')]).toEqual([false, false]);
  await program.add('1x1', () => captureBucket(opened, '1x1'));
  expect(program.has('1x1')).toBe(true);
});

test('a folder that cannot be created is refused before anything is compiled', async () => {
  writeFileSync(join(directory, 'file'), '');
  const opened = await openCase('dense-tiny');
  const opening = new EmulatedBackend({ mode: 'compile' }).open(opened.model, {
    bindRuntimeInput: opened.bindRuntimeInput,
    kvSlots: 1,
    recipeDirectory: join(directory, 'file'),
  });
  await expect(opening).rejects.toThrow('The recipes cannot be written');
});

test('a read-only folder is read, and refuses a new recipe before it is compiled', () => {
  const folder = join(directory, 'key');
  mkdirSync(folder);
  const isRoot = process.getuid?.() === 0; // for whom all can be written
  for (const each of [directory, folder]) chmodSync(each, isRoot ? 0o755 : 0o555);
  const script = `import { Recipes } from ${JSON.stringify(new URL('./recipes.ts', import.meta.url).href)};
    const recipes = Recipes.open(${JSON.stringify(directory)}, 'key');
    console.log(recipes.read('1x1', () => { throw new Error('unbound'); }));
    await recipes.keep('graph', async () => console.log('compiled')).catch(({ code }) => console.log(code));`;
  const args = [
    '--conditions=@graft/source',
    '--import',
    new URL('../../../scripts/tsx.mjs', import.meta.url).href,
    '--input-type=module',
    '--eval',
    script,
  ];
  const { stdout, stderr } = spawnSync(process.execPath, args, { encoding: 'utf8', ...(isRoot && { uid: 65534, gid: 65534 }) });
  chmodSync(directory, 0o755);
  chmodSync(folder, 0o755);
  expect([stdout, stderr]).toEqual(['null\nGRAFT_STATIC_DEVICE_RECIPE\n', '']);
});

test('a bucket cannot be added to a program that is disposed meanwhile', async () => {
  const opened = await openCase('dense-tiny');
  const options = { bindRuntimeInput: opened.bindRuntimeInput, kvSlots: 1, recipeDirectory: directory };
  const program = await new EmulatedBackend({ mode: 'lazy', threads: 1 }).open(opened.model, options);
  const adding = program.add('1x1', () => captureBucket(opened, '1x1'));
  program[Symbol.dispose]();
  await expect(adding).rejects.toThrow('The program was disposed.');
});
