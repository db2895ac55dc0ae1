import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { fileURLToPath } from 'node:url';
import { coreModels, Llama4ForCausalLM, llama4, upstreamContext } from '@graft/core-model';
import { captureLanguageModel, verify } from '@graft/engine';
import { CaptureCache } from '@graft/graph';
import { checkPlugin } from '@graft/registry/testing';
import { opsOf } from './backend.ts';
import plugin from './plugin.ts';

const app = fileURLToPath(new URL('..', import.meta.url));
const config = llama4.parseConfig(JSON.parse(readFileSync(new URL('../small/config.json', import.meta.url), 'utf8')));
const context = upstreamContext('Llama4ForCausalLM', config, { platform: 'my-backend', maxModelLength: 32 });

test('the override keeps what Graft promises', async () => {
  const { records } = await checkPlugin(plugin, {
    needs: [coreModels],
    architectures: ['Llama4ForCausalLM'],
    context: ({ build }) => ({ ...context, build }),
  });
  assert.ok(records.some(({ property, outcome }) => property === 'contract holds' && outcome === 'held'));
});

test('a captured model names the ops that the compiler must lower', () => {
  const ops = opsOf(captureLanguageModel(new Llama4ForCausalLM(context), new CaptureCache()));
  assert.ok(ops.includes('attention') && ops.includes('linear'), ops.join(', '));
});

test('the override computes the same as upstream on this backend', async () => {
  const { record } = await verify({ architecture: 'Llama4ForCausalLM', platform: 'my-backend', app });
  assert.equal(record.verdict, 'equal');
});
