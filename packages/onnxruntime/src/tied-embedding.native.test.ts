import { PinnedBuffer } from '@graft/system';
import { afterAll, expect, test } from 'vitest';
import { type Attribute, Environment, GraphBuilder, int, OrtValue } from './index.ts';

// A Q8_0 embedding that is also the head: GatherBlockQuantized and MatMulNBits over the same bytes.
const VOCAB = 1000;
const HIDDEN = 128;
const BLOCK = 32;
const BLOCKS = HIDDEN / BLOCK;

const environment = Environment.create();
afterAll(() => environment[Symbol.dispose]());

/** Two declarations of the same bytes: `[vocab, hidden]` to gather from, `[vocab, blocks, block]` to multiply with. */
function tiedModel(): Uint8Array {
  const graph = new GraphBuilder('tied');
  const ids = graph.input('ids', 'int64', ['tokens']);
  const rows = graph.externalInitializer('embedding', 'uint8', [VOCAB, HIDDEN]);
  const rowScales = graph.externalInitializer('embedding.scales', 'float32', [VOCAB, BLOCKS]);
  const gather: Record<string, Attribute> = { bits: int(8), block_size: int(BLOCK), gather_axis: int(0), quantize_axis: int(1) };
  const hidden = graph.op('GatherBlockQuantized', [rows, ids, rowScales], {
    domain: 'com.microsoft',
    attributes: gather,
    output: 'hidden',
  });
  graph.output(hidden, 'float32', ['tokens', HIDDEN]);
  const head = graph.externalInitializer('head', 'uint8', [VOCAB, BLOCKS, BLOCK]);
  const headScales = graph.externalInitializer('head.scales', 'float32', [VOCAB * BLOCKS]);
  const linear: Record<string, Attribute> = { N: int(VOCAB), K: int(HIDDEN), bits: int(8), block_size: int(BLOCK), accuracy_level: int(4) };
  graph.output(
    graph.op('MatMulNBits', [hidden, head, headScales], { domain: 'com.microsoft', attributes: linear, output: 'logits' }),
    'float32',
    ['tokens', VOCAB],
  );
  return graph.toBytes();
}

test('embedding and head share the bytes of one 8-bit tensor with the implied zero point 128', async () => {
  using memory = PinnedBuffer.allocate(VOCAB * HIDDEN + VOCAB * BLOCKS * 4);
  const quants = memory.elements('uint8', 0, VOCAB * HIDDEN);
  quants.forEach((_, index) => {
    quants[index] = (Math.imul(index, 2654435761) >>> 13) & 255;
  });
  const scales = memory.elements('float32', VOCAB * HIDDEN, VOCAB * BLOCKS);
  scales.forEach((_, block) => {
    scales[block] = 0.001 * (1 + (block % 5));
  });
  const row = (token: number) =>
    Float32Array.from(
      { length: HIDDEN },
      (_, index) => (quants[token * HIDDEN + index]! - 128) * scales[token * BLOCKS + Math.floor(index / BLOCK)]!,
    );

  using session = await environment.createSession(tiedModel(), {
    intraOpThreads: 1,
    initializers: new Map<string, OrtValue>([
      ['embedding', OrtValue.over(memory, 'uint8', [VOCAB, HIDDEN])],
      ['embedding.scales', OrtValue.over(memory, 'float32', [VOCAB, BLOCKS], VOCAB * HIDDEN)],
      ['head', OrtValue.over(memory, 'uint8', [VOCAB, BLOCKS, BLOCK])],
      ['head.scales', OrtValue.over(memory, 'float32', [VOCAB * BLOCKS], VOCAB * HIDDEN)],
    ]),
  });
  const tokens = [7, 999, 0];
  using ids = OrtValue.from('int64', [3], tokens);
  using hidden = OrtValue.allocate('float32', [3, HIDDEN]);
  using logits = OrtValue.allocate('float32', [3, VOCAB]);
  using binding = session.bind({ inputs: { ids }, outputs: { hidden, logits } });
  await session.run(binding);
  tokens.forEach((token, position) => {
    expect(hidden.view.slice(position * HIDDEN, (position + 1) * HIDDEN)).toEqual(row(token));
    // Every token's own row gives its logit; rounding of the activations to 8 bits is about 0.6 %.
    const square = row(token).reduce((sum, x) => sum + x * x, 0);
    expect(Math.abs(logits.view[position * VOCAB + token]! - square) / square).toBeLessThan(0.02);
  });
});
