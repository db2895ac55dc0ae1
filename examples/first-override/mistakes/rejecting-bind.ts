// Its bind is asynchronous, and rejects.
import { definePlugin } from '@graft/registry';

export default definePlugin({
  name: 'rejecting-bind',
  async bind() {
    await Promise.reject(new Error('the driver library libnpu.so is not installed'));
  },
});
