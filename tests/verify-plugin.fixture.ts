import { Llama4DecoderLayer, type Llama4ForCausalLM } from '@graft/core-model';
import { ops, type Tensor } from '@graft/graph';
import { definePlugin, InitHook, type Patches } from '@graft/registry';

/** The layer that `OneLayerWrong` spoils. */
const wrongLayer = 7;

type Base = new (...args: never[]) => Llama4ForCausalLM;

/** What an override's author may get wrong, on top of whatever serves Llama 4 on hpu: one layer's feed-forward part gives a thousandth too much. */
function oneLayerWrong(Served: Base): Base {
  class OneLayerWrong extends Served {
    @InitHook({ reason: 'a mistake to be found' })
    scaleOne(patches: Patches): void {
      const { feed_forward } = [...this.model.layers].filter((layer) => layer instanceof Llama4DecoderLayer)[wrongLayer]!;
      const { forward } = feed_forward;
      patches.replaceMethod(feed_forward, 'forward', function (this: never, x: Tensor): Tensor {
        return ops.mulScalar({ x: forward.call(this, x) }, { value: 1.001 });
      });
    }
  }
  return OneLayerWrong;
}

export default definePlugin({
  name: 'one-layer-wrong',
  after: ['core-model', 'llama4-hpu'],
  overrides: [{ of: 'Llama4ForCausalLM', platform: 'hpu', priority: 10, factory: async () => oneLayerWrong as never }],
});
