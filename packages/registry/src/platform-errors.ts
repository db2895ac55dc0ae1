import { GraftError } from '@graft/common';
import { nearestNames, quotedList } from './names.ts';
import { describePlatform, type PlatformCandidate } from './platform-candidate.ts';

/** A platform was asked for that no loaded plugin brings. */
export class UnknownPlatformError extends GraftError {
  constructor(requested: string, known: readonly string[], plugins: readonly string[]) {
    super({
      code: 'GRAFT_UNKNOWN_PLATFORM',
      what: `No loaded plugin brings the platform "${requested}".`,
      where: `platforms loaded: ${quotedList(known, 'none', 'and')}; plugins loaded: ${quotedList(plugins, 'none', 'and')}`,
      fix: `choose ${quotedList(nearestNames(requested, known), 'one that is loaded')}, or load the plugin that brings it.`,
    });
  }
}

/** A platform asked for by name is absent or could not be detected. Another is never taken instead. */
export class PlatformUnavailableError extends GraftError {
  constructor(candidate: PlatformCandidate, cause: unknown) {
    super({
      code: 'GRAFT_PLATFORM_UNAVAILABLE',
      what: `Platform "${candidate.name}" was asked for and ${describePlatform(candidate)}.`,
      where: `platform "${candidate.name}"`,
      fix: 'make its device available, or ask for another platform; none is chosen in its place.',
      cause,
    });
  }
}

/** Several platforms could be chosen, and nothing says which. */
export class PlatformConflictError extends GraftError {
  constructor(candidates: readonly PlatformCandidate[]) {
    const names = candidates.map(({ name }) => name);
    super({
      code: 'GRAFT_PLATFORM_CONFLICT',
      what: `${candidates.length} platforms could be chosen: ${quotedList(names, 'none', 'and')}.`,
      where: candidates.map((candidate) => `"${candidate.name}" ${describePlatform(candidate)}`).join('; '),
      fix: `choose one by name, for example --platform ${names[0]}.`,
    });
  }
}

/** No platform has a device, and none is the fallback. */
export class NoPlatformError extends GraftError {
  constructor(candidates: readonly PlatformCandidate[]) {
    super({
      code: 'GRAFT_NO_PLATFORM',
      what: candidates.length === 0 ? 'No loaded plugin brings a platform.' : 'No platform has a device, and none can stand in for it.',
      where: candidates.map((candidate) => `"${candidate.name}" ${describePlatform(candidate)}`).join('; ') || 'no platforms',
      fix: 'load a plugin whose platform has `fallback: true` (@graft/cpu), or choose an emulated one by name.',
    });
  }
}
