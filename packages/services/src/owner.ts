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

const owners = new WeakMap<object, Owner>();

/** The owner of the binding, or of the decorator, that gave a service; undefined for another object. */
export const boundBy = (service: object): Owner | undefined => owners.get(service);

export function noteOwner(service: unknown, owner: Owner): void {
  if (typeof service === 'function' || (typeof service === 'object' && service !== null)) owners.set(service, owner);
}
