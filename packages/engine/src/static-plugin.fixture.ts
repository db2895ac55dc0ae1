import { fileURLToPath } from 'node:url';
import { InterpreterBackend, type ProgramStep, type StaticProgram } from '@graft/graph';
import { definePlugin } from '@graft/registry';
import { BucketedModelRunner } from './runner/bucketed-runner.ts';
import { BucketPolicy, ModelRunner, RunnerParts, StaticBackend } from './tokens.ts';

/** What a test sees of a static program, and where it can step in. The interpreter itself computes. */
export const device = {
  runs: [] as { bucket: string; step: ProgramStep }[],
  added: [] as string[],
  alive: 0,
  /** Called before each run; what it throws is what the run throws. */
  beforeRun: null as ((bucket: string) => void) | null,
  /** May change what a run gives. */
  afterRun: null as ((bucket: string, outputs: Awaited<ReturnType<StaticProgram['run']>>) => void) | null,
  /** Called after each update of the weights; what it throws is what the update throws. */
  afterUpdate: null as (() => void) | null,
  reset(): void {
    Object.assign(device, { runs: [], added: [], beforeRun: null, afterRun: null, afterUpdate: null });
  },
};

export const staticPlugin = fileURLToPath(new URL('./static-plugin.fixture.ts', import.meta.url));

const interpreter = new InterpreterBackend();

const watched: StaticBackend = {
  name: 'static interpreter',
  movesCacheRows: true,
  async open(model, options) {
    options.onProgress?.(0.5, 'copying weights');
    const program = await interpreter.open(model, options);
    let isAlive = true;
    device.alive++;
    return {
      has: (bucket) => program.has(bucket),
      hasRecipe: (bucket) => program.hasRecipe(bucket),
      add(bucket, capture, signal) {
        device.added.push(bucket);
        return program.add(bucket, capture, signal);
      },
      async run(bucket, step) {
        device.runs.push({ bucket, step });
        device.beforeRun?.(bucket);
        const outputs = await program.run(bucket, step);
        device.afterRun?.(bucket, outputs);
        return outputs;
      },
      moveCacheRows: (moves) => program.moveCacheRows!(moves),
      updateWeights() {
        program.updateWeights();
        device.afterUpdate?.();
      },
      get facts() {
        return program.facts;
      },
      [Symbol.dispose]() {
        if (isAlive) device.alive--;
        isAlive = false;
        program[Symbol.dispose]();
      },
    };
  },
};

/** The interpreter as a platform of static shapes; `platformOptions` are the bucket policy. */
export default definePlugin({
  name: 'static',
  platforms: [{ name: 'static', modes: ['compile'], detect: () => 'device', checkOptions: () => undefined }],
  bind(bind) {
    bind(StaticBackend).toConstantValue(watched);
    bind(BucketPolicy).toDynamicValue(
      async (services) => (await services.get(RunnerParts)).config.platformOptions as unknown as BucketPolicy,
    );
    bind(ModelRunner).to(BucketedModelRunner);
  },
});
