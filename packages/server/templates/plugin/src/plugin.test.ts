import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { coreModels, llama4, upstreamContext } from '@graft/core-model';
import cpu from '@graft/cpu';
import { verify } from '@graft/engine';
import { checkPlugin } from '@graft/registry/testing';
import plugin from './plugin.ts';

const app = fileURLToPath(new URL('..', import.meta.url));
const config = llama4.parseConfig(JSON.parse(readFileSync(new URL('../small/config.json', import.meta.url), 'utf8')));

test('the override keeps what Graft promises', async () => {
  const { records } = await checkPlugin(plugin, {
    needs: [coreModels, cpu],
    architectures: ['Llama4ForCausalLM'],
    context: ({ architecture, build }) => ({ ...upstreamContext(architecture, config, { maxModelLength: 32 }), build }),
  });
  assert.ok(records.some(({ property, outcome }) => property === 'contract holds' && outcome === 'held'));
});

test('the override computes the same as upstream', async () => {
  const { record } = await verify({ architecture: 'Llama4ForCausalLM', app });
  assert.equal(record.verdict, 'equal');
});
