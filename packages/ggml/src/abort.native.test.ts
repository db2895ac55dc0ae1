import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, expect, test } from 'vitest';

const folder = mkdtempSync(join(tmpdir(), 'graft-ggml-'));
afterAll(() => rmSync(folder, { recursive: true }));

const [index, library] = ['index', 'library'].map((name) => fileURLToPath(new URL(`../dist/${name}.js`, import.meta.url)));

/** Runs a module in a process, or in a worker of it. Its `ggml` is the library without checks. */
function run(body: string, thread: 'main thread' | 'worker') {
  const entry = join(folder, 'entry.mjs');
  const wrapped = thread === 'worker' ? `if (isMainThread) new Worker(new URL(import.meta.url)); else { ${body} }` : body;
  writeFileSync(
    entry,
    `import { isMainThread, Worker } from 'node:worker_threads';
import { devices, GraphBuilder, GraphMemory, Stream } from ${JSON.stringify(index)};
import { ggml } from ${JSON.stringify(library)};
${wrapped}`,
  );
  return spawnSync(process.execPath, [entry], { encoding: 'utf8', timeout: 30_000 });
}

/** A row that the table lacks, in a computation on other threads. The index is written after the checks. */
const wrongRow = `
const [device] = devices();
const builder = new GraphBuilder();
const [table, rows] = [builder.input('F32', [4, 2]), builder.input('I32', [1], { below: 2 })];
const graph = builder.build([builder.getRows(table, rows)], new GraphMemory(device), 'the wrong row');
const fill = graph.fill.bind(graph);
graph.fill = (values) => {
  fill(values);
  ggml().calls.ggml_backend_tensor_set(rows.handle, Int32Array.of(7), 0, 4);
};
await new Stream(device, { threads: 2 }).compute(graph, new Map([[table, new Float32Array(8)], [rows, new Int32Array(1)]]));`;

const wrongShape = `
const { calls } = ggml();
const context = calls.ggml_init({ mem_size: 4096, mem_buffer: null, no_alloc: true });
const tensor = calls.ggml_new_tensor_4d(context, 0, 4, 1, 1, 1);
calls.ggml_reshape_4d(context, tensor, 5, 1, 1, 1);`;

test.each(['main thread', 'worker'] as const)(
  'an assertion during a computation ends the process with 3, the assertion and the graph (%s)',
  (thread) => {
    const { status, signal, stderr } = run(wrongRow, thread);
    expect({ status, signal }).toEqual({ status: 3, signal: null });
    expect(stderr.split('\n')).toEqual([
      expect.stringMatching(/^GgmlAbortError: ggml ended the process: GGML_ASSERT\(i01 >= 0 && i01 < ne01\) failed$/),
      '  It computed the wrong row (1 nodes; inputs F32 [4, 2, 1, 1], I32 [1, 1, 1, 1]) on CPU.',
      '  The last call was ggml_backend_graph_compute.',
      expect.stringMatching(/^ {2}where: ggml\/src\/ggml-cpu\/ops\.cpp:\d+$/),
      expect.stringMatching(/^ {2}fix: start again/),
      '  code: GRAFT_GGML_ABORT',
      '',
    ]);
  },
);

test.each(['main thread', 'worker'] as const)(
  'an assertion during a call ends the process with 3, the assertion and the function (%s)',
  (thread) => {
    const { status, stderr } = run(wrongShape, thread);
    expect(status).toBe(3);
    expect(stderr).toMatch(/GGML_ASSERT\(ggml_nelements.*\n {2}The last call was ggml_reshape_4d\.\n {2}where: ggml\/src\/ggml\.c:\d+\n/);
  },
);

test('an exception of C++ ends the process in the same way', () => {
  const { status, stderr } = run(`ggml().optional('void _ZSt20__throw_out_of_rangePKc(const char *text)')('out of range');`, 'worker');
  expect(status).toBe(3);
  expect(stderr).toContain('ggml ended the process: An exception of C++ reached no caller.');
});

test('a process whose worker has ended still ends as without ggml', () => {
  const { status, signal, stderr } = run('ggml();', 'worker');
  expect({ status, signal, stderr }).toEqual({ status: 0, signal: null, stderr: '' });
});
