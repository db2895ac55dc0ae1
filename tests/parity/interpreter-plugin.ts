import { BackendOf } from '@graft/engine';
import { InterpreterBackend } from '@graft/graph';
import { definePlugin } from '@graft/registry';

/** The interpreter as a platform, so that the oracle goes the same way through registry and engine as a device does. */
export default definePlugin({
  name: 'interpreter',
  platforms: [{ name: 'interpreter', modes: ['regional'], detect: () => 'device' }],
  bindEngine(bind) {
    bind.bind(BackendOf('interpreter')).toDynamicValue(() => new InterpreterBackend());
  },
});
