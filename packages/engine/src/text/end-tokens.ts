/**
 * Tokens that end an answer by their name, since files often declare only one of several. The same names as in GGUF's own runtime.
 */
const endNames: ReadonlySet<string> = new Set([
  ...['<|eot_id|>', '<|eom_id|>', '<|im_end|>', '<|end|>', '<|return|>', '<|call|>', '<|calls|>', '<|flush|>', '<end_of_turn>', '<turn|>'],
  ...['<|endoftext|>', '<|end_of_text|>', '<end_of_utterance>', '<EOT>', '_<EOT>', '[EOT]', '[EOS]', '[e~[', '</s>', '<eos>'],
  ...['<|tool_response>', '<\uff5cend\u2581of\u2581sentence\uff5c>'],
  // After these, a model that fills in the middle of a file begins another file.
  ...[
    '<|fim_pad|>',
    '<fim-pad>',
    '<fim_pad>',
    '<PAD>',
    '[PAD]',
    '<|fim_repo|>',
    '<|repo_name|>',
    '<fim-repo>',
    '<REPO>',
    '<reponame>',
    '<|file_sep|>',
  ],
]);

export const isEndName = (name: string): boolean => endNames.has(name);

/** The tokens whose names end an answer. */
export function endTokensAmong<Token extends { content: string }>(tokens: readonly Token[]): Token[] {
  const found = tokens.filter(({ content }) => isEndName(content));
  const has = (...names: string[]) => names.every((name) => found.some(({ content }) => content === name));
  // Where an answer has several messages, `<|end|>` ends one of them.
  const severalMessages = has('<|return|>', '<|call|>') || has('<|calls|>', '<|flush|>');
  return found.filter(({ content }) => !(content === '<|end|>' && severalMessages) && !(content === '</s>' && has('<|tool_response>')));
}
