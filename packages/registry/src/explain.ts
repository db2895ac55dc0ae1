import type { CandidateRecord, ChainRecord, ResolutionRecord } from './resolution-record.ts';

/** A resolution in words, from its record, so that it can be rendered on either side of a worker boundary. */
export function explain(record: ResolutionRecord): string {
  const lines = [headline(record)];
  for (const { architecture, reason, detail } of record.passedOver) lines.push(`  passed over ${architecture} (${reason}): ${detail}`);
  lines.push('  class chain, upstream first:');
  record.chain.forEach((link, index) => {
    lines.push(`    ${index + 1}. ${chainLine(link)}`);
  });
  lines.push('  candidates:');
  for (const candidate of record.candidates) lines.push(`    ${candidateLine(candidate)}`);
  return lines.join('\n');
}

function headline({ architecture, platform, mode, chain }: ResolutionRecord): string {
  const top = chain.at(-1);
  const served =
    top === undefined
      ? 'nothing'
      : `${top.className ?? `the ${top.kind === 'upstream' ? 'upstream class' : top.kind}`} of plugin "${top.plugin}"`;
  const where = platform === null ? 'upstream' : `platform "${platform}"${mode === null ? '' : `, mode "${mode}"`}`;
  return `${architecture} (${where}) is served by ${served}`;
}

function chainLine({ className, kind, plugin, priority, file }: ChainRecord): string {
  const rank = priority === null ? '' : `, priority ${priority}`;
  return `${className ?? '(not imported)'}: ${kind} of plugin "${plugin}"${rank}${file === null ? '' : ` (${file})`}`;
}

function candidateLine({ plugin, kind, platform, priority, reason, detail, contract }: CandidateRecord): string {
  const facts = [kind, platform === null ? null : `platform "${platform}"`, priority === null ? null : `priority ${priority}`].filter(
    (fact) => fact !== null,
  );
  const drift = contract === 'none' ? '' : `; contract ${contract}`;
  return `[${reason}] ${plugin} (${facts.join(', ')}): ${detail}${drift}`;
}
