import * as z from 'zod';

/** The one reason why a candidate is, or is not, the class that runs. */
const candidateReason = z.enum(['selected', 'base', 'outranked', 'other-platform']);
export type CandidateReason = z.output<typeof candidateReason>;

const kind = z.enum(['upstream', 'subclass', 'factory']);
const file = z.string().nullable().describe("File URL of the plugin's module; null where the plugin was passed in code.");

const candidate = z.strictObject({
  plugin: z.string(),
  file,
  kind,
  platform: z.string().nullable().describe('null for the upstream class, which serves every platform.'),
  priority: z.number().nullable(),
  contract: z
    .enum(['none', 'not checked', 'holds', 'broken'])
    .describe('The state of the drift contract (`reliesOn`). "not checked": no model was built, or a part of it could not be looked at.'),
  contractNotes: z.array(z.string()).describe('Each breach of the contract, and each part that was not checked with the reason.'),
  reason: candidateReason,
  detail: z.string(),
});
export type CandidateRecord = z.output<typeof candidate>;

const chainLink = z.strictObject({
  plugin: z.string(),
  file,
  kind,
  priority: z.number().nullable(),
  className: z.string().nullable().describe('null until the model code was imported.'),
});
export type ChainRecord = z.output<typeof chainLink>;

const passedOver = z.strictObject({
  architecture: z.string(),
  reason: z.enum(['unknown', 'retired']),
  detail: z.string(),
  nearest: z.array(z.string()),
});
export type PassedOverRecord = z.output<typeof passedOver>;

/** A resolution as data: what `explain --json` prints and what crosses a worker boundary. */
export const ResolutionRecord = z.strictObject({
  requested: z.array(z.string()),
  architecture: z.string(),
  platform: z.string().nullable().describe('null where upstream alone was asked for.'),
  mode: z.string().nullable(),
  passedOver: z.array(passedOver).describe('Names before `architecture` in the request, each with the reason.'),
  chain: z.array(chainLink).describe('From the upstream class to the one that is built.'),
  candidates: z.array(candidate).describe('Every candidate for `architecture`, each with exactly one reason.'),
});
export type ResolutionRecord = z.output<typeof ResolutionRecord>;

/** The published JSON schema of a `ResolutionRecord`. */
export function resolutionJsonSchema(): object {
  return z.toJSONSchema(ResolutionRecord, { target: 'draft-2020-12' });
}
