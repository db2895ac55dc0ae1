import koffi from 'koffi';

const registry = new FinalizationRegistry<() => void>((collected) => collected());

/**
 * JavaScript's windows onto native memory. An ArrayBuffer cannot be taken back once it is handed out (Node copies instead of
 * detaching such a one), and touching unmapped memory ends the process; so an address range stays reserved until its last view is
 * collected. `whenUnused` runs then, or at once where there is none.
 */
export class TrackedViews {
  private alive = 0;
  private unused: (() => void) | null = null;

  create(pointer: bigint, byteLength: number): ArrayBuffer {
    if (byteLength === 0) return new ArrayBuffer(0);
    const view: ArrayBuffer = koffi.view(pointer, byteLength);
    this.alive += 1;
    registry.register(view, () => this.collected());
    return view;
  }

  get any(): boolean {
    return this.alive > 0;
  }

  /** `callback` must not keep a view reachable. */
  whenUnused(callback: () => void): void {
    if (this.alive === 0) callback();
    else this.unused = callback;
  }

  private collected(): void {
    this.alive -= 1;
    if (this.alive === 0) this.unused?.();
  }
}
