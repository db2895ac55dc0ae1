import { groupPatches, type HookRecord, type HookRunner, type PatchGroup, type RenameRecord } from '@graft/registry';

/** What the hooks did to the model, as data. */
export interface ModelChanges {
  hooks: readonly HookRecord[];
  renames: readonly RenameRecord[];
  /** The patches in effect, like ones together: there are as many as layers. */
  patches: readonly PatchGroup[];
}

export function changesOf(hooks: HookRunner): ModelChanges {
  const record = hooks.toJSON();
  return { ...record, patches: groupPatches(record.patches) };
}
