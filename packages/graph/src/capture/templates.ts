import type { Module } from '../nn/module.ts';
import type { Dims } from '../shape.ts';
import type { CaptureCache } from './capture-cache.ts';
import { checkGuard } from './guard.ts';
import type { Template } from './specialise.ts';

/** Which capture a template is of: what runs the model, and the arguments that it gets, in words. */
export interface TemplateKey {
  readonly model: Module;
  readonly call: unknown;
  readonly inputs: string;
}

interface Held extends TemplateKey {
  /** Null when it has none: `forward` asked for a size, or does not run without one. */
  readonly template: Template | null;
}

/** The templates of each cache. Only a frozen cache keeps any, since its user promises that the modules of its regions stay as they are. */
const templates = new WeakMap<CaptureCache, Held[]>();

/** The template that a cache holds, or the one that `make` gives. What lies outside of regions may have changed since: its guards are evaluated again. */
export function templateOf(cache: CaptureCache, key: TemplateKey, make: () => Template | null): Template | null {
  const list = templates.get(cache) ?? [];
  templates.set(cache, list);
  const at = list.findIndex(({ model, call, inputs }) => model === key.model && call === key.call && inputs === key.inputs);
  if (at >= 0 && isCurrent(list[at]!)) return list[at]!.template;
  const held = { ...key, template: make() };
  if (at >= 0) list[at] = held;
  else list.push(held);
  return held.template;
}

function isCurrent({ template, model }: Held): boolean {
  return template === null || template.captured.guards.every((guard) => checkGuard(guard, model) === null);
}

/** A symbol of a template; no other dimension of the model has its name, so that numbers take the place of nothing else. */
export function templateSymbol(name: string): string {
  return `any ${name}`;
}

export function renameSizes(dims: Dims, sizes: ReadonlyMap<string, number>): Dims {
  return dims.map((dim) => dim.renamed((symbol) => (sizes.has(symbol) ? templateSymbol(symbol) : symbol)));
}
