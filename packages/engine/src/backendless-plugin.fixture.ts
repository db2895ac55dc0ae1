import { definePlugin } from '@graft/registry';

/** A platform that forgot its backend. */
export default definePlugin({ name: 'bare', platforms: [{ name: 'bare', modes: ['none'], detect: () => 'device' }] });
