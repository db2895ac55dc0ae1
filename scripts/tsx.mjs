// Registers tsx with the packages' compiler options, decorators among them. By itself tsx reads the root tsconfig.json, which has none.
//   node --conditions=@graft/source --import ./scripts/tsx.mjs FILE.ts
import { fileURLToPath } from 'node:url';

process.env.TSX_TSCONFIG_PATH ??= fileURLToPath(new URL('../tsconfig.base.json', import.meta.url)); // workers inherit it
await import('tsx');
