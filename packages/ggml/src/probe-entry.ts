// The child process of `probeDevices`: prints what each device does with a small graph, as JSON.
import { writeSync } from 'node:fs';
import { messageOf } from '@graft/common';
import { type Device, devices } from './device.ts';
import { GraphMemory } from './graph.ts';
import { GraphBuilder } from './graph-builder.ts';
import { type Accelerator, loadGgml } from './library.ts';
import type { ProbedDevice } from './probe.ts';
import { Stream } from './stream.ts';

loadGgml((process.argv[2] as Accelerator | undefined) ?? null);
const found: ProbedDevice[] = [];
for (const device of devices()) {
  const { name, description, type, memory } = device;
  found.push({ name, description, type, memory, fault: await faultOf(device) });
}
writeSync(1, JSON.stringify(found));

async function faultOf(device: Device): Promise<string | null> {
  try {
    using stream = new Stream(device, { threads: 1 });
    using memory = new GraphMemory(device);
    const builder = new GraphBuilder();
    const output = builder.binary('add', builder.input('F32', [4]), builder.constant(1));
    using graph = builder.build([output], memory);
    await stream.compute(graph, new Map([[graph.inputs[0]!, Float32Array.of(1, 2, 3, 4)]]));
    const result = new Float32Array(4);
    graph.read(output, result);
    return result.join() === '2,3,4,5' ? null : `It computes ${result.join(', ')} where 2, 3, 4, 5 is right.`;
  } catch (error) {
    return messageOf(error);
  }
}
