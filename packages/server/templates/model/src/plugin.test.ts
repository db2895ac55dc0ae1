import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { coreModels, upstreamContext } from '@graft/core-model';
import cpu from '@graft/cpu';
import { verify } from '@graft/engine';
import { checkPlugin } from '@graft/registry/testing';
import { family } from './family.ts';
import { MyModelForCausalLM } from './model.ts';
import plugin from './plugin.ts';

const app = fileURLToPath(new URL('..', import.meta.url));
const config = family.parseConfig(JSON.parse(readFileSync(new URL('../small/config.json', import.meta.url), 'utf8')));
const context = upstreamContext('MyModelForCausalLM', config, { maxModelLength: 32 });

test('the model has the parameters that its checkpoints have', () => {
  const shapes = Object.fromEntries(
    [...new MyModelForCausalLM(context).namedParameters()].map(([name, { shape }]) => [name, String(shape)]),
  );
  assert.equal(shapes['model.layers.0.self_attn.q_norm.weight'], String([config.headDim]));
});

test('the override keeps what Graft promises', async () => {
  const { records } = await checkPlugin(plugin, {
    needs: [coreModels, cpu],
    architectures: ['MyModelForCausalLM'],
    context: ({ build }) => ({ ...context, build }),
  });
  assert.ok(records.some(({ property, outcome }) => property === 'contract holds' && outcome === 'held'));
});

test('the model runs, and with the override it computes the same', async () => {
  const { record } = await verify({ architecture: 'MyModelForCausalLM', app });
  assert.equal(record.verdict, 'equal');
});
