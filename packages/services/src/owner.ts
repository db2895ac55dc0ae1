/** Who made a registration: shown in errors and by `explain`. */
export interface Owner {
  readonly plugin: string;
  /** File URL of the plugin's module; null where it was passed in code. */
  readonly file: string | null;
}

/** `plugin "cpu" (file:///...)`, the form that errors use. */
export function ownerText({ plugin, file }: Owner): string {
  return `plugin "${plugin}" (${file ?? 'passed in code'})`;
}
