import type { Command, Option } from 'commander';

/** What a shell sources. Each asks the `graft` that was typed for `graft complete -- WORDS`, and completes paths where that prints nothing. */
const scripts = {
  bash: `_graft_complete() {
  local IFS=$'\\n'
  COMPREPLY=($("$1" complete -- "\${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null | cut -f 1))
}
complete -o default -F _graft_complete graft
`,
  zsh: `#compdef graft
_graft_complete() {
  local -a found
  found=("\${(@f)$("$words[1]" complete -- "\${(@)words[2,CURRENT]}" 2>/dev/null)}")
  if [[ -n "$found" ]]; then
    found=("\${(@)found/$'\\t'/:}")
    _describe graft found
  else
    _files
  fi
}
compdef _graft_complete graft
`,
  fish: `function __graft_complete
  set -l words (commandline -opc)
  set -l found ($words[1] complete -- $words[2..] (commandline -ct) 2>/dev/null)
  if test (count $found) -gt 0
    printf '%s\\n' $found
  else
    __fish_complete_path (commandline -ct)
  end
end
complete -c graft -f -a '(__graft_complete)'
`,
};

export type Shell = keyof typeof scripts;

export function completionScript(shell: Shell): string {
  return scripts[shell];
}

/** The candidates for the last of these words, one a line, a tab before its description. Empty: any path may stand there. */
export function completionsOf(root: Command, typed: readonly string[]): string {
  // bash gives `--mode=full` as three words, zsh and fish as one.
  const words = typed.flatMap((word, i) => (word !== '=' ? [word] : i === typed.length - 1 ? [''] : []));
  const [, flag, , last = ''] = /^(?:(--[^=]+)(=))?(.*)$/s.exec(words.pop() ?? '')!;
  const command = root.commands.find((each) => each.name() === words[0]) ?? root;
  const before = command === root ? words : words.slice(1);
  const found = (flag === undefined ? candidates(command, before, last) : valuesOf(command, flag).map((value) => [`${flag}=${value}`, '']))
    .filter(([value]) => value!.startsWith(flag === undefined ? last : `${flag}=${last}`))
    .map(([value, description]) => `${value}${description === '' ? '' : `\t${firstSentence(description!)}`}\n`);
  return found.join('');
}

type Candidate = readonly [value: string, description: string];

function candidates(command: Command, before: readonly string[], last: string): Candidate[] {
  const help = command.createHelp();
  const previous = optionOf(command, before.at(-1));
  if (previous?.required === true) return valuesOf(command, previous.long!).map((value) => [value, '']);
  if (last.startsWith('-')) return help.visibleOptions(command).map(({ long, description }) => [long!, description]);
  if (command.commands.length > 0) return help.visibleCommands(command).map((each) => [each.name(), each.description()]);
  const given = before.filter((word, i) => !word.startsWith('-') && optionOf(command, before[i - 1])?.required !== true).length;
  return (command.registeredArguments[given]?.argChoices ?? []).map((value) => [value, '']);
}

function valuesOf(command: Command, flag: string): readonly string[] {
  return optionOf(command, flag)?.argChoices ?? [];
}

function optionOf(command: Command, flag: string | undefined): Option | undefined {
  return flag === undefined ? undefined : command.options.find(({ long, short }) => long === flag || short === flag);
}

function firstSentence(text: string): string {
  return text.replace(/\s+/g, ' ').split(/(?<=[.;:]) (?=[A-Z])/)[0]!;
}
