import type { Owner } from '@graft/services';
import type { LazyManifest } from './manifest.ts';
import type { LazyClass, LazyFactory, LazyFamily, ModelCapabilities } from './model.ts';
import type { Detected } from './platform.ts';
import type { ReliesOn } from './plugin.ts';

/** An upstream class that may be overridden: a model, or a part of one. */
export interface DeclaredClass {
  readonly kind: 'model' | 'layer';
  readonly name: string;
  readonly owner: Owner;
  readonly load: LazyClass;
  readonly family: LazyFamily | null;
  readonly capabilities: ModelCapabilities;
  readonly contains: readonly string[];
  readonly version: string | null;
  /** The drift contracts of overrides are checked against it; null where the plugin has none. */
  readonly manifest: LazyManifest | null;
}

export interface OverrideEntry {
  readonly kind: 'subclass' | 'factory';
  readonly target: DeclaredClass;
  readonly owner: Owner;
  readonly load: LazyClass | LazyFactory;
  readonly platform: string;
  readonly priority: number;
  /** It serves only inside one of these; everywhere when empty. */
  readonly within: readonly DeclaredClass[];
  /** null: all modes. */
  readonly modes: readonly string[] | null;
  readonly when: ((device: Detected) => boolean | string) | null;
  readonly required: boolean;
  readonly capabilities: ModelCapabilities;
  readonly reliesOn: ReliesOn | null;
}

export const qualifiedName = ({ name, owner }: DeclaredClass): string => `${owner.plugin}/${name}`;
