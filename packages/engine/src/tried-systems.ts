/** Where Graft has run, by Node's names. On linux-arm64 under an emulator only. */
const tried = ['linux-x64', 'linux-arm64'];

/** A sentence for a system that Graft never ran on. It starts all the same. */
export function untriedSystem({ platform, arch }: { platform: string; arch: string } = process): string | null {
  const system = `${platform}-${arch}`;
  return tried.includes(system) ? null : `Graft was never tried on ${system}. It goes on; please report what does not work.`;
}
