import * as z from 'zod';

const candidateReason = z
  .enum(['selected', 'base', 'outranked', 'scoped', 'other-platform', 'other-mode', 'condition', 'without'])
  .describe(
    '`selected` serves; `base`: what serves builds on it; `scoped`: serves inside certain classes alone; `condition`: its `when` refused; `without`: switched off.',
  );
export type CandidateReason = z.output<typeof candidateReason>;

const plugin = z.string();
const file = z.string().nullable().describe("File URL of the plugin's module; null where the plugin was passed in code.");
const modes = z.array(z.string()).nullable().describe('null: all modes.');
const detail = z.string();

const candidate = z.strictObject({
  plugin,
  file,
  kind: z.enum(['upstream', 'subclass', 'factory']),
  platform: z.string().nullable().describe('null for the upstream class, which serves every platform.'),
  priority: z.number().nullable().describe('null for the upstream class.'),
  within: z.array(z.string()).describe('The classes inside which it serves; empty: everywhere.'),
  modes,
  required: z.boolean().describe('Whether it is an error when it replaces nothing.'),
  reason: candidateReason,
  detail,
  className: z.string().nullable().describe('null until the class was imported.'),
  contract: z
    .enum(['none', 'not checked', 'holds', 'broken'])
    .describe('The state of the drift contract (`reliesOn`). "not checked": no model was built, or a part of it could not be looked at.'),
  contractNotes: z.array(z.string()).describe('Each breach of the contract, and each part that was not checked with the reason.'),
  replaced: z
    .strictObject({ count: z.int(), paths: z.array(z.string()) })
    .nullable()
    .describe('The instances of the built model that it replaced; null until a model was built. A part that is not a module has no path.'),
});
export type Candidate = z.output<typeof candidate>;

const classFields = {
  chain: z.array(candidate).describe('From the upstream class to the one that serves, where no scope says otherwise.'),
  candidates: z.array(candidate).describe('Every candidate, each with exactly one reason.'),
};

const resolvedLayer = z.strictObject({
  name: z.string(),
  plugin: z.string().describe('The plugin that declares the class.'),
  kind: z.enum(['model', 'layer']),
  ...classFields,
});
export type ResolvedLayer = z.output<typeof resolvedLayer>;

const resolvedHook = z.strictObject({
  plugin,
  hook: z.string(),
  of: z.string(),
  platform: z.string(),
  phase: z.enum(['init', 'postLoad']),
  modes,
  reason: z.enum(['runs', 'other-platform', 'other-mode', 'without']),
  detail,
});
export type ResolvedHook = z.output<typeof resolvedHook>;

const passedOver = z.strictObject({
  architecture: z.string(),
  reason: z.enum(['unknown', 'retired']),
  detail,
  nearest: z.array(z.string()),
});

/** Which classes serve an architecture, and why. Plain data: `explain --json` prints it, and it crosses a worker boundary. */
export const Resolution = z.strictObject({
  version: z.literal(2),
  requested: z.array(z.string()),
  architecture: z.string(),
  platform: z.string().nullable().describe('null where upstream alone was asked for.'),
  mode: z.string().nullable(),
  without: z.array(z.string()).describe('What was switched off, as `plugin: hook or override`.'),
  capabilities: z.record(z.string(), z.unknown()).describe("The model's, as its overrides narrow them."),
  passedOver: z.array(passedOver).describe('Names before `architecture` in the request, each with the reason.'),
  ...classFields,
  layers: z.array(resolvedLayer).describe('The other classes that have overrides here: parts of models, and models that others contain.'),
  hooks: z.array(resolvedHook).describe('The hooks that plugins declare for the architecture and for layers.'),
  backend: z
    .strictObject({ name: z.string(), reason: z.string() })
    .nullable()
    .exactOptional()
    .describe('The backend that would compute, and why; null where the platform has no choice. Only `graft explain` adds it.'),
});
export type Resolution = z.output<typeof Resolution>;

export function resolutionJsonSchema(): object {
  return z.toJSONSchema(Resolution, { target: 'draft-2020-12' });
}
