// The platform "cpu" with the interpreter as its backend: for a test that needs no native library.
import { Backend } from '@graft/engine';
import { InterpreterBackend } from '@graft/graph';
import { definePlugin } from '@graft/registry';

export default definePlugin({
  name: 'interpreter-cpu',
  platforms: [{ name: 'cpu', modes: ['full'], fallback: true, detect: () => 'device' }],
  bind(bind) {
    bind(Backend).to(InterpreterBackend);
  },
});
