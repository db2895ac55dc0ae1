/**
 * Normalises a host of the allow list as a URL does, for comparison: lower case, ASCII form, numbers as addresses.
 * @param text a name or an address, optionally with a port. Default: the scheme's port.
 * @returns null for anything else, such as a URL, a path or a pattern.
 */
export function parseImageHost(text: string): { hostname: string; port: string | null } | null {
  const [, name = '', port] = /^(\[[^\]\s]+\]|[^/\\?#@*:\s]+)(?::(\d+))?$/.exec(text) ?? [];
  const url = urlOf(`http://${name}`);
  if (url === null || url.port !== '' || Number(port ?? 1) > 65_535) return null;
  return { hostname: url.hostname, port: port === undefined ? null : String(Number(port)) };
}

/** Null for what is no URL. */
export function urlOf(text: string): URL | null {
  try {
    return new URL(text);
  } catch {
    return null;
  }
}
