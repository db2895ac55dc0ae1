import { OrtBackend } from '@graft/cpu/api';
import { InterpreterBackend } from '@graft/graph';
import type { BackendChoice } from './run-case.ts';

export const cpu: BackendChoice = { name: 'cpu', plugins: ['@graft/cpu'], create: () => new OrtBackend() };
export const interpreter: BackendChoice = {
  name: 'interpreter',
  plugins: [new URL('./interpreter-plugin.ts', import.meta.url).href],
  create: () => new InterpreterBackend(),
};
