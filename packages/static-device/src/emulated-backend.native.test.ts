import type { Llama4ForCausalLM, Llama4ForConditionalGeneration } from '@graft/core-model';
import { captureLanguageModel, captureMultimodalModel, captureVisionModel } from '@graft/engine';
import { CaptureCache, type HostTensor, Parameter, type StaticProgram } from '@graft/graph';
import { describe, expect, test } from 'vitest';
import {
  buckets,
  captureBucket,
  difference,
  float32,
  type OpenedCase,
  openCase,
  oracleFor,
  oracleOf,
  scaleWeights,
  someSteps,
  stepOf,
} from './device-model.fixture.ts';
import { EmulatedBackend, type StaticMode } from './emulated-backend.ts';

const kvSlots = 3;

async function open(opened: OpenedCase, mode: StaticMode, recipeDirectory: string | null = null) {
  return new EmulatedBackend({ mode, threads: 1 }).open(opened.model, {
    bindRuntimeInput: opened.bindRuntimeInput,
    kvSlots,
    recipeDirectory,
  });
}

async function addAll(program: StaticProgram, opened: OpenedCase, cache = new CaptureCache()): Promise<void> {
  for (const bucket of buckets) await program.add(bucket, () => captureBucket(opened, bucket, cache));
}

describe.each(['compile', 'lazy'] as const)('mode %s', (mode) => {
  test.each(['scout-tiny', 'maverick-tiny', 'dense-tiny', 'heads10-tiny', 'top2-tiny', 'vision-tiny'])(
    '%s: padded prefill, decode and batches give what the interpreter gives',
    async (name) => {
      const opened = await openCase(name);
      using program = await open(opened, mode);
      using oracle = await oracleOf(opened, kvSlots);
      await addAll(program, opened);
      for (const { bucket, ...step } of someSteps(opened)) {
        const { logits } = await program.run(bucket, step);
        const expected = await oracle.run(step);
        expect(difference(logits!, expected['logits']!), bucket).toBeLessThan(1e-5);
      }
    },
  );
});

test.each(['compile', 'lazy'] as const)('images in mode %s: the tower a tile at a time, and its features in a prompt', async (mode) => {
  const opened = await openCase('vision-tiny');
  const { numChannels, imageSize } = opened.context.config.vision!;
  const hiddenSize = opened.context.config.hiddenSize;
  const model = opened.model as Llama4ForConditionalGeneration;
  using program = await open(opened, mode);
  await program.add('tile', () => captureVisionModel(model, new CaptureCache(), opened.context.config.vision!, 1));
  await program.add('1x8 images', () => captureMultimodalModel(model, new CaptureCache(), hiddenSize, { batch: 1, sequence: 8 }));

  const pixels = float32([1, numChannels, imageSize, imageSize]);
  const { imageFeatures } = await program.run('tile', { firstSlot: 0, batch: 1, inputs: { pixelValues: pixels } });
  using tower = await oracleFor(opened, captureVisionModel(model, new CaptureCache(), opened.context.config.vision!), kvSlots);
  const features = (await tower.run({ firstSlot: 0, batch: 1, inputs: { pixelValues: pixels } }))['imageFeatures']!;
  expect(difference(imageFeatures!, features)).toBeLessThan(1e-5);

  const { bucket: _, ...text } = someSteps(opened)[0]!;
  const rows = BigInt64Array.of(-1n, 0n, 1n, -1n, 2n, -1n, -1n, -1n);
  const imageRows: HostTensor = { dtype: 'int64', dims: [1, 8], data: rows };
  const padded = float32([8, hiddenSize]);
  padded.data.set((features.data as Float32Array).subarray(0, 3 * hiddenSize));
  const step = { ...text, inputs: { ...text.inputs, imageFeatures: padded, imageRows } };
  using language = await oracleFor(opened, captureMultimodalModel(model, new CaptureCache(), hiddenSize), kvSlots);
  const { logits } = await program.run('1x8 images', step);
  expect(difference(logits!, (await language.run(step))['logits']!)).toBeLessThan(1e-5);
});

describe('graphs', () => {
  test('scout-tiny needs three layer graphs and two segments a bucket, maverick-tiny a fourth layer graph; lazy mode one graph', async () => {
    const count = async (name: string, mode: StaticMode): Promise<number> => {
      const opened = await openCase(name);
      using program = await open(opened, mode);
      await addAll(program, opened);
      return program.facts.graphs;
    };
    // Before the layers: the embedding. After them: the last norm, the rows and the logits.
    expect(await count('scout-tiny', 'compile')).toBe(buckets.length * (3 + 2));
    expect(await count('maverick-tiny', 'compile')).toBe(buckets.length * (4 + 2));
    expect(await count('maverick-tiny', 'lazy')).toBe(buckets.length);
  });

  test('a tied weight is one memory, and so is a module that other layers are lent', async () => {
    const opened = await openCase('dense-tiny');
    using program = await open(opened, 'compile');
    const before = program.facts.weightBytes;
    await addAll(program, opened);
    const distinct = new Set([...opened.model.namedParameters(), ...opened.model.namedBuffers()].map(([, weight]) => weight));
    const bytes = [...distinct].reduce((sum, { shape }) => sum + 4 * shape.reduce((product, size) => product * size, 1), 0);
    expect(program.facts.weightBytes).toBe(bytes);
    expect(before).toBe(bytes);
  });

  test('a bucket is compiled once, and a step of an unknown bucket is refused', async () => {
    const opened = await openCase('dense-tiny');
    using program = await open(opened, 'compile');
    await program.add('1x1', () => captureBucket(opened, '1x1'));
    const { graphs } = program.facts;
    await program.add('1x1', () => {
      throw new Error('captured again');
    });
    expect(program.facts.graphs).toBe(graphs);
    expect([program.has('1x1'), program.has('2x1')]).toEqual([true, false]);
    await expect(program.run('2x1', someSteps(opened)[5]!)).rejects.toThrow('The program has no bucket "2x1"; it has 1x1.');
  });

  test('a capture of another model, or with a symbolic size, is refused', async () => {
    const opened = await openCase('dense-tiny');
    const other = await openCase('dense-tiny');
    using program = await open(opened, 'compile');
    await expect(program.add('1x1', () => captureBucket(other, '1x1'))).rejects.toThrow('not the model that was opened');
    const anyShape = () => captureLanguageModel(opened.model, new CaptureCache());
    await expect(program.add('any', anyShape)).rejects.toThrow('The size "batch" is unknown.');
    expect(program.has('any')).toBe(false);
  });
});

describe('a step', () => {
  test('is checked before native code reads it', async () => {
    const opened = await openCase('scout-tiny');
    using program = await open(opened, 'compile');
    await addAll(program, opened);
    const step = someSteps(opened)[1]!;
    const refused = (change: Partial<typeof step>) => expect(program.run('1x8', { ...step, ...change })).rejects;
    await refused({ firstSlot: 3 }).toThrow('The step uses slots 3 to 3; the program has 3.');
    await refused({ batch: 2 }).toThrow('The step has 2 sequences; the bucket has 1.');
    await refused({ inputs: { ...step.inputs, inputIds: step.inputs['logitsIndices']! } }).toThrow('[1, 8] is expected');
    const short = { dtype: 'int32', dims: [1], data: Int32Array.of(12) } as const;
    await refused({ inputs: { ...step.inputs, 'full.sequenceLengths': short } }).toThrow('does not end after its 8 queries');
    const far = (value: number) => ({ dtype: 'int32', dims: [1], data: Int32Array.of(value) }) as const;
    const beyond = { 'full.queryStart': far(75), 'full.sequenceLengths': far(83), 'full.totalLength': { ...far(83), dims: [] } };
    await refused({ inputs: { ...step.inputs, ...beyond } }).toThrow('The cache has 80 rows; 83 are needed.');
  });

  test('stops between two graphs after an abort, and the next step runs', async () => {
    const opened = await openCase('scout-tiny');
    using program = await open(opened, 'compile');
    await addAll(program, opened);
    const [step] = someSteps(opened) as [ReturnType<typeof someSteps>[number]];
    const aborted = new AbortController();
    const running = program.run('1x8', { ...step, signal: aborted.signal });
    aborted.abort(new Error('enough'));
    await expect(running).rejects.toThrow('enough');
    using oracle = await oracleOf(opened, kvSlots);
    expect(difference((await program.run('1x8', step))['logits']!, (await oracle.run(step))['logits']!)).toBeLessThan(1e-5);
  });

  test('excludes another one and an update of the weights, and ends with an error when the program is disposed meanwhile', async () => {
    const opened = await openCase('scout-tiny');
    const program = await open(opened, 'compile');
    await addAll(program, opened);
    const [step] = someSteps(opened) as [ReturnType<typeof someSteps>[number]];
    const running = program.run('1x8', step);
    await expect(program.run('1x8', step)).rejects.toThrow('still running');
    expect(() => program.updateWeights()).toThrow('still running');
    program[Symbol.dispose]();
    await expect(running).rejects.toThrow('was disposed');
    await expect(program.run('1x8', step)).rejects.toThrow('was disposed');
    program[Symbol.dispose]();
  });

  test('at many first slots keeps few bindings and loses no value', async () => {
    const opened = await openCase('dense-tiny');
    using program = await new EmulatedBackend({ mode: 'compile', threads: 1 }).open(opened.model, {
      bindRuntimeInput: opened.bindRuntimeInput,
      kvSlots: 40,
      recipeDirectory: null,
    });
    await program.add('1x1', () => captureBucket(opened, '1x1'));
    const run = async (firstSlot: number, computed: number) => {
      const { logits } = await program.run('1x1', stepOf([{ computed, tokens: [5 + computed] }], 1, opened, { firstSlot }));
      return [...(logits!.data as Float32Array)];
    };
    const first = await run(0, 0);
    const second = await run(0, 1);
    for (let slot = 1; slot < 40; slot++) expect(await run(slot, 0)).toEqual(first);
    for (let slot = 39; slot > 0; slot--) expect(await run(slot, 1)).toEqual(second);
  });
});

describe('updateWeights', () => {
  test('computes with the new values', async () => {
    const opened = await openCase('maverick-tiny');
    using program = await open(opened, 'compile');
    await addAll(program, opened);
    const [step] = someSteps(opened) as [ReturnType<typeof someSteps>[number]];
    const before = [...((await program.run('1x8', step))['logits']!.data as Float32Array)];
    const { weightBytes, optimisations } = program.facts;
    scaleWeights(opened, 1.5);
    program.updateWeights();
    using oracle = await oracleOf(opened, kvSlots);
    const { logits } = await program.run('1x8', step);
    expect(difference(logits!, (await oracle.run(step))['logits']!)).toBeLessThan(1e-5);
    expect([...(logits!.data as Float32Array)]).not.toEqual(before);
    expect(program.facts).toMatchObject({ weightBytes, optimisations });
  });

  test('changes nothing when one weight no longer fits', async () => {
    const opened = await openCase('maverick-tiny');
    using program = await open(opened, 'compile');
    await addAll(program, opened);
    const [step] = someSteps(opened) as [ReturnType<typeof someSteps>[number]];
    const before = [...((await program.run('1x8', step))['logits']!.data as Float32Array)];
    scaleWeights(opened, 1.5);
    const norm = (opened.model as Llama4ForCausalLM).model.norm as { weight: Parameter };
    norm.weight = new Parameter([33]);
    expect(() => program.updateWeights()).toThrow('shape changed from [32] to [33].');
    norm.weight = new Parameter([32]);
    expect(() => program.updateWeights()).toThrow('has no values');
    expect([...((await program.run('1x8', step))['logits']!.data as Float32Array)]).toEqual(before);
  });
});
