// Its detector throws where it should answer "absent".
import { definePlugin } from '@graft/registry';

export default definePlugin({
  name: 'throwing-detector',
  platforms: [
    {
      name: 'npu',
      modes: ['full'],
      detect() {
        throw new Error('cannot read /sys/class/npu');
      },
    },
  ],
});
