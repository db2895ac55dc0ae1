import { type CacheMove, InterpreterBackend, type Program, type ProgramStep } from '@graft/graph';
import { definePlugin } from '@graft/registry';
import { Backend } from './tokens.ts';

/** What a test sees of the programs that run, and where it can step in. The interpreter itself computes. */
export const watch = {
  steps: [] as ProgramStep[],
  moves: [] as CacheMove[],
  /** Awaited before each run; what it throws is what the run throws. */
  beforeRun: null as ((step: ProgramStep) => void | Promise<void>) | null,
  programsAlive: 0,
  reset(): void {
    watch.steps.length = 0;
    watch.moves.length = 0;
    watch.beforeRun = null;
  },
};

const interpreter = new InterpreterBackend();

const watchedInterpreter: Backend = {
  name: 'interpreter',
  movesCacheRows: true,
  async compile(model, options): Promise<Program> {
    const program = await interpreter.compile(model, options);
    let alive = true;
    watch.programsAlive++;
    return {
      facts: program.facts,
      rowsMayAgree: true,
      async run(step) {
        watch.steps.push(step);
        await watch.beforeRun?.(step);
        step.signal?.throwIfAborted();
        return program.run(step);
      },
      moveCacheRows(moves) {
        watch.moves.push(...moves);
        program.moveCacheRows!(moves);
      },
      [Symbol.dispose]() {
        if (alive) watch.programsAlive--;
        alive = false;
        program[Symbol.dispose]();
      },
    };
  },
};

/** The interpreter as a platform, so that a test of the engine needs no native library; `bare` is one that forgot its backend. */
export default definePlugin({
  name: 'interpreter',
  platforms: [
    { name: 'interpreter', modes: ['regional'], detect: () => 'device' },
    { name: 'bare', modes: ['none'], detect: () => 'emulated' },
  ],
  bind(bind) {
    bind(Backend, { platform: 'interpreter' }).toConstantValue(watchedInterpreter);
  },
});
