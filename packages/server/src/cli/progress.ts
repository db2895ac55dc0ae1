import type { LoadProgress } from '@graft/engine';
import cliProgress from 'cli-progress';

/** A terminal gets a bar that moves; any other stream gets plain lines. */
export type ProgressOutput = NodeJS.WritableStream & { isTTY?: boolean };

export interface ProgressReport extends Disposable {
  show(progress: LoadProgress): void;
  /** Ends the last bar, so that the next output has its own line. */
  end(): void;
}

const names: Record<LoadProgress['step'], string> = {
  download: 'Download',
  resolve: 'Resolve',
  construct: 'Construct',
  load: 'Load',
  measure: 'Measure',
  open: 'Open',
  capture: 'Capture',
  compile: 'Compile',
  'warm-up': 'Warm up',
  drain: 'Drain',
};

export function progressReport(output: ProgressOutput): ProgressReport {
  return output.isTTY === true ? bars(output) : lines(output);
}

function bars(output: ProgressOutput): ProgressReport {
  let step: LoadProgress['step'] | null = null;
  let bar: cliProgress.SingleBar | null = null;
  const end = () => {
    bar?.stop();
    bar = null;
    step = null;
  };
  return {
    end,
    [Symbol.dispose]: end,
    show({ step: now, message, fraction }) {
      if (now !== step) {
        // The next step has begun, so this one is done.
        bar?.update(1);
        end();
        step = now;
        bar = new cliProgress.SingleBar({
          stream: output,
          format: '{name} [{bar}] {percentage}% {message}',
          barCompleteChar: '█',
          barIncompleteChar: '░',
          barsize: 24,
          hideCursor: true,
          fps: 12,
        });
        bar.start(1, 0, { name: names[now].padEnd(9), message });
      }
      bar?.update(fraction ?? 0, { message });
      if (fraction === 1) {
        bar?.stop();
        bar = null;
      }
    },
  };
}

/** A line when a step begins and at each quarter of it. */
function lines(output: ProgressOutput): ProgressReport {
  let said = '';
  return {
    end: () => undefined,
    [Symbol.dispose]: () => undefined,
    show({ step, message, fraction }) {
      const quarter = fraction === null ? 'begun' : String(Math.floor(fraction * 4));
      if (said === `${step} ${quarter}`) return;
      said = `${step} ${quarter}`;
      const percent = fraction === null ? '' : ` ${Math.round(fraction * 100)} %`;
      output.write(`${names[step]}${percent}: ${message}\n`);
    },
  };
}
