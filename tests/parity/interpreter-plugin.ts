import { Backend } from '@graft/engine';
import { InterpreterBackend } from '@graft/graph';
import { definePlugin } from '@graft/registry';

/** The interpreter as a platform, so that the oracle goes the same way through registry and engine as a device does. */
export default definePlugin({
  name: 'interpreter',
  platforms: [{ name: 'interpreter', modes: ['regional'], detect: () => 'device' }],
  bind(bind) {
    bind(Backend).to(InterpreterBackend);
  },
});
