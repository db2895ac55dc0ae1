// What a plugin patches is an instance: no class of any package is another one after a model was loaded, patched in every way and closed.

import * as coreModel from '@graft/core-model';
import { Attention, ChunkedLocalAttention, Llama4DecoderLayer, type Llama4ForCausalLM } from '@graft/core-model';
import * as engine from '@graft/engine';
import * as graph from '@graft/graph';
import { Module, type Tensor } from '@graft/graph';
import * as hpu from '@graft/llama4-hpu/api';
import * as onnxExport from '@graft/onnx-export';
import * as registry from '@graft/registry';
import { definePlugin, type Patches } from '@graft/registry';
import { expect, test } from 'vitest';
import { generateIds, promptOf, request, startTiny } from '../packages/engine/src/engine.fixture.ts';
import { Snapshot } from '../packages/registry/src/snapshot.ts';

class Wrapped extends Module {
  readonly inner: Module & { forward(x: Tensor): Tensor };
  constructor(inner: Wrapped['inner']) {
    super();
    this.inner = inner;
  }
  forward(x: Tensor): Tensor {
    return this.inner.forward(x);
  }
}

const layersOf = (model: Llama4ForCausalLM) => [...model.model.layers].filter((layer) => layer instanceof Llama4DecoderLayer);

/** One patch of each kind on each layer that can take it. */
function patchAll(model: Llama4ForCausalLM, _context: unknown, patches: Patches): void {
  for (const layer of layersOf(model)) {
    const { attn } = layer.self_attn;
    if (attn instanceof ChunkedLocalAttention) patches.swapClass(attn, Attention);
    patches.replaceMethod(attn, 'forward', Attention.prototype.forward as never);
    patches.lend(layer, 'norm_of_model', model.model.norm!);
    patches.setField(layer, 'isPatched', true, { readBy: 'this test' });
  }
}

function wrapAll(model: Llama4ForCausalLM, _context: unknown, patches: Patches): void {
  for (const layer of layersOf(model)) patches.wrapChild(layer, 'feed_forward', (inner) => new Wrapped(inner as Wrapped['inner']));
}

const where = { of: 'Llama4ForCausalLM', platform: 'interpreter' };
const patching = definePlugin({
  name: 'patching',
  after: ['core-model'],
  hooks: [
    { ...where, phase: 'init', run: patchAll },
    { ...where, phase: 'postLoad', reload: 'keep', run: wrapAll },
  ],
});

/** Every class that a package exports, and its prototype. */
function exportedClasses(): Snapshot {
  const packages = { coreModel, engine, graph, hpu, onnxExport, registry };
  const classes = Object.entries(packages).flatMap(([from, exports]) =>
    Object.entries(exports as Record<string, unknown>).flatMap(([name, value]): [string, object][] =>
      typeof value === 'function' && /^class\b/.test(String(value))
        ? [
            [`${from}.${name}`, value],
            [`${from}.${name}.prototype`, value.prototype as object],
          ]
        : [],
    ),
  );
  return new Snapshot(new Map(classes));
}

test('loading, patching in every way and closing, three times over, leaves every class of every package as it was', async () => {
  const upstream = await startTiny();
  const expected = await generateIds(upstream, request(promptOf(3)));
  const before = exportedClasses();
  expect([...before.objects()].length).toBeGreaterThan(200);
  for (let round = 0; round < 3; round++) {
    const served = await startTiny({}, { pluginsInCode: [patching] });
    const operations = new Set(served.info.changes.patches.map(({ operation }) => operation));
    expect(operations).toEqual(new Set(['swapClass', 'replaceMethod', 'lend', 'setField', 'wrapChild']));
    expect(await generateIds(served, request(promptOf(3)))).toEqual(expected);
    await served.close();
  }
  expect(before.differences(exportedClasses())).toEqual([]);
  const again = await startTiny();
  expect(again.info.changes.patches).toEqual([]);
  expect(await generateIds(again, request(promptOf(3)))).toEqual(expected);
});

test('a prototype that is patched through a hook is refused, and every class is as it was', async () => {
  const before = exportedClasses();
  const spoiling = definePlugin({
    name: 'spoiling',
    after: ['core-model'],
    hooks: [
      {
        ...where,
        phase: 'init',
        run(_model: Llama4ForCausalLM, _context: unknown, patches: Patches) {
          patches.replaceMethod(Attention.prototype, 'forward', ChunkedLocalAttention.prototype.forward as never);
        },
      },
    ],
  });
  await expect(startTiny({}, { pluginsInCode: [spoiling] })).rejects.toMatchObject({
    code: 'GRAFT_HOOK_FAILED',
    what: expect.stringContaining('Attention.prototype belongs to every model of the process'),
  });
  expect(before.differences(exportedClasses())).toEqual([]);
});
