// The child process of `probeDevices`: prints each device, then what it does with a small graph, as lines of JSON.
import { readFileSync, writeSync } from 'node:fs';
import { GraftError, messageOf } from '@graft/common';
import koffi from 'koffi';
import { type Device, devices } from './device.ts';
import { GraphMemory } from './graph.ts';
import { GraphBuilder } from './graph-builder.ts';
import { type Accelerator, ggml, loadGgml } from './library.ts';
import type { ProbeLine } from './probe.ts';
import { Stream } from './stream.ts';

const accelerator = (process.argv[2] as Accelerator | undefined) ?? null;
const print = (line: ProbeLine): void => void writeSync(1, `${JSON.stringify(line)}\n`);

try {
  loadGgml(accelerator);
  const wanted = devices().filter(({ type }) => (type === 'CPU') === (accelerator === null));
  for (const device of wanted) {
    const { name, description, type, memory } = device;
    print({ found: { name, description, type, memory, driver: driverOf(description) } });
  }
  for (const device of wanted) print({ tried: { name: device.name, fault: await faultOf(device) } });
} catch (error) {
  print({ refused: GraftError.is(error) ? { what: error.what, fix: error.fix } : { what: messageOf(error), fix: undefined } });
}

async function faultOf(device: Device): Promise<string | null> {
  try {
    using stream = new Stream(device, { threads: 1 });
    using memory = new GraphMemory(device);
    const builder = new GraphBuilder();
    const output = builder.binary('add', builder.input('F32', [4]), builder.constant(1));
    using graph = builder.build([output], memory);
    ggml().calls.ggml_log_set(null, null); // to stderr: what an accelerator says before it ends the process
    await stream.compute(graph, new Map([[graph.inputs[0]!, Float32Array.of(1, 2, 3, 4)]]));
    const result = new Float32Array(4);
    graph.read(output, result);
    return result.join() === '2,3,4,5' ? null : `It computes ${result.join(', ')} where 2, 3, 4, 5 is right.`;
  } catch (error) {
    return messageOf(error);
  }
}

/** The driver as ggml's log and the system name it. Vulkan's log has a line `0 = device (driver) | ...` for each device. */
function driverOf(description: string): string | null {
  const line = ggml().log.find((each) => each.includes(` = ${description} (`));
  const named = line?.slice(line.indexOf(description) + description.length).match(/^ \((.*?)\) \|/)?.[1];
  const version = accelerator === 'cuda' || /nvidia/i.test(named ?? '') ? nvidiaVersion() : null;
  const cuda = accelerator === 'cuda' ? `CUDA ${cudaVersion()}` : null;
  const parts = [named, version, cuda].filter((part) => part !== null && part !== undefined);
  return parts.length === 0 ? null : parts.join(', ');
}

function nvidiaVersion(): string | null {
  try {
    return readFileSync('/proc/driver/nvidia/version', 'utf8').match(/Kernel Module.*?\s(\d+\.\d+(\.\d+)?)/)?.[1] ?? null;
  } catch {
    return null;
  }
}

/** The newest CUDA that the driver runs. */
function cudaVersion(): string {
  const version: [number | null] = [null];
  koffi.load('libcuda.so.1').func('int cuDriverGetVersion(_Out_ int *version)')(version);
  return `${Math.floor(version[0]! / 1000)}.${Math.floor((version[0]! % 1000) / 10)}`;
}
