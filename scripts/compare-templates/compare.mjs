// Compares Graft's rendering of chat templates with the one that expected.py wrote, and prints every difference.
//   node --conditions=@graft/source --import ./scripts/tsx.mjs scripts/compare-templates/compare.mjs FOLDER [--quiet]
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { ChatTemplate } from '../../packages/engine/src/text/chat-template.ts';

const [folder, quiet] = process.argv.slice(2);
const conversations = JSON.parse(await readFile(new URL('conversations.json', import.meta.url), 'utf8'));
const [{ tokens, now }, ...templates] = (await readFile(join(folder, 'expected.jsonl'), 'utf8'))
  .trimEnd()
  .split('\n')
  .map((line) => JSON.parse(line));

/** Our rendering of one conversation. */
function render(template, { messages, tools, documents, variables, add_generation_prompt: addGenerationPrompt = true }) {
  try {
    return { text: template().render(messages, { addGenerationPrompt, tools, documents, variables, now: new Date(now) }) };
  } catch (error) {
    return { error: `${error.what ?? error.stack} ${error.where ?? ''}` };
  }
}

/** Where two texts part, with some of each. */
function parting(expected, ours) {
  let at = 0;
  while (at < expected.length && expected[at] === ours[at]) at++;
  const from = (text) => JSON.stringify(text.slice(Math.max(0, at - 30), at + 50));
  return `\n      expected ${from(expected)}\n      Graft    ${from(ours)}`;
}

const counts = Object.fromEntries(
  ['text', 'tools'].map((kind) => [kind, { same: 0, different: 0, failed: 0, refusedByBoth: 0, renderedByGraftOnly: 0 }]),
);
const wrong = { text: new Set(), tools: new Set() };
for (const { name, template: source, expected } of templates) {
  let made;
  const template = () => (made ??= new ChatTemplate({ source, specialTokens: tokens, where: name }));
  for (const conversation of conversations) {
    const { name: title, kind } = conversation;
    const python = expected[title];
    const ours = render(template, conversation);
    const count = counts[kind];
    if (python.text === undefined) count[ours.text === undefined ? 'refusedByBoth' : 'renderedByGraftOnly']++;
    else if (ours.text === python.text) count.same++;
    else {
      count[ours.text === undefined ? 'failed' : 'different']++;
      wrong[kind].add(name);
      if (quiet === undefined) console.log(`${name}\n    ${title}: ${ours.error ?? parting(python.text, ours.text)}`);
    }
  }
}
console.log(`${templates.length} templates, ${conversations.length} conversations`);
for (const [kind, count] of Object.entries(counts)) console.log(`${kind}:`, count, `in ${wrong[kind].size} templates`);
process.exitCode = templates.length < 100 || wrong.text.size + wrong.tools.size > 0 ? 1 : 0;
