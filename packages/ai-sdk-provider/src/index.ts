export { createGraft, type GraftModelOptions, type GraftProvider } from './provider.ts';
