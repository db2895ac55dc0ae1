/** Everything that the command line takes from its environment. Nothing else in this package reads `process.env`. */
export interface Environment {
  /** `GRAFT_PLUGINS`: the plugins to load, of those found; empty means none. */
  allowPlugins?: string[];
  /** All variables, for child processes and the cache folder. */
  variables: NodeJS.ProcessEnv;
}

export function readEnvironment(variables: NodeJS.ProcessEnv = process.env): Environment {
  const plugins = variables['GRAFT_PLUGINS'];
  return { variables, ...(plugins === undefined ? {} : { allowPlugins: splitList(plugins) }) };
}

/** `a, b` -> `['a', 'b']`; empty -> `[]`. */
export function splitList(text: string): string[] {
  return text
    .split(',')
    .map((one) => one.trim())
    .filter((one) => one !== '');
}
