import type { ModelCapabilities } from './capabilities.ts';
import type { LazyManifest } from './manifest.ts';
import type { LazyFactory, LazyModel } from './model.ts';
import type { ReliesOn } from './plugin.ts';

/** Who made a registration: shown in errors and by `explain`. */
export interface Owner {
  readonly plugin: string;
  /** File URL of the plugin's module; null where it was passed in code. */
  readonly file: string | null;
}

export interface UpstreamEntry {
  readonly kind: 'upstream';
  readonly architecture: string;
  readonly owner: Owner;
  readonly model: LazyModel;
  readonly capabilities: ModelCapabilities;
  /** The plugin's version; null where it states none. */
  readonly version: string | null;
  /** What the drift contracts of overrides are held against; null where the plugin has none. */
  readonly manifest: LazyManifest | null;
}

interface OverrideEntryFacts {
  readonly architecture: string;
  readonly owner: Owner;
  readonly platform: string;
  readonly priority: number;
  readonly reliesOn: ReliesOn | null;
}

export type OverrideEntry = OverrideEntryFacts &
  ({ readonly kind: 'subclass'; readonly model: LazyModel } | { readonly kind: 'factory'; readonly factory: LazyFactory });

export type Registration = UpstreamEntry | OverrideEntry;

/** `plugin "cpu" (file:///...)`, the form that errors use. */
export function ownerText({ plugin, file }: Owner): string {
  return `plugin "${plugin}" (${file ?? 'passed in code'})`;
}
