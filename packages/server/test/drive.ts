import { createApp } from '../src/app.ts';
import { scriptedEngine } from './scripted-engine.ts';

const answer = `# Photosynthesis

Plants turn **light** into sugar. In *three* steps:

1. Light is absorbed by \`chlorophyll\`.
2. Water is split, and oxygen leaves.
3. Carbon dioxide becomes sugar.

- [x] done
- [ ] not yet

\`\`\`python
def reverse(text: str) -> str:
    """Reverses a string, and has one line that is really far too long to fit on a telephone."""
    return text[::-1]
\`\`\`

| Step | Where | What comes out of it |
|---|---|---|
| Light reactions | Thylakoid | ATP, NADPH and oxygen |
| Calvin cycle | Stroma | sugar |

> A quote, [a link](https://example.org), ![image](https://example.org/x.png) and <b onclick="alert(1)">html</b>.

<script>window.hacked = 1</script><img src=x onerror="window.hacked = 1">[x](javascript:window.hacked=1)
`;
const emulated = process.argv.includes('--emulated');
const resolution = {
  requested: ['Llama4ForCausalLM'], architecture: 'Llama4ForCausalLM', platform: emulated ? 'hpu' : 'cpu', mode: null, passedOver: [],
  chain: [{ plugin: 'core-model', file: null, kind: 'upstream', priority: null, className: 'Llama4ForCausalLM' }, ...(emulated ? [{ plugin: 'llama4-hpu', file: null, kind: 'subclass', priority: 0, className: 'HpuLlama4ForCausalLM' }] : [])],
  candidates: [
    { plugin: 'core-model', kind: 'upstream', platform: null, priority: null, reason: emulated ? 'base' : 'selected', detail: emulated ? 'the class that the subclass of plugin "llama4-hpu" builds on' : 'no override serves platform "cpu"' },
    { plugin: 'llama4-hpu', kind: 'subclass', platform: 'hpu', priority: 0, reason: emulated ? 'selected' : 'other-platform', detail: emulated ? 'the highest priority (0) on platform "hpu"' : 'serves platform "hpu", not "cpu"' },
  ],
};
const app = createApp(scriptedEngine({ tokens: () => answer.split(/(?<=\s)/), delayMs: 15,
  info: { model: 'SmolLM2-135M-Instruct.Q4_1', resolution, explanation: 'Llama4ForCausalLM (platform "cpu") is served by Llama4ForCausalLM of plugin "core-model"\n  class chain, upstream first:\n    1. Llama4ForCausalLM: upstream', ...(emulated ? { platform: 'hpu', device: 'emulated' as const, modelClass: 'HpuLlama4ForCausalLM', mode: 'compile' } : {}), timings: { resolve: 0.004, construct: 0.02, load: 0.9, capture: 0.31, compile: 2.4, 'warm-up': 0.2 } } }));
console.log(await app.listen({ port: Number(process.env['PORT'] ?? 8123), host: '127.0.0.1' }));
