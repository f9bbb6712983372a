import type { Build } from '../core/build.ts'
import type { ConveyorError, ErrorKind } from '../core/errors.ts'
import type { Timeline } from '../core/timeline.ts'
import type { PhaseListener } from '../util/stopwatch.ts'
import type { LocalImage, RegistryImage } from './image.ts'

/** What metrics and traces see of the builds of this process. Calls return at once, and never throw. */
export interface BuildObserver {
  /** An attempt at a build starts. */
  attempt(build: Build): AttemptObserver
  /** A build has ended without an attempt of this process, as a pending one that is cancelled. */
  ended(build: Build): void
  /** A commit status was accepted by the forge (`set`), not accepted for now (`failed`), or never will be (`refused`). */
  commitStatus(build: Build, result: StatusResult): void
  /** Another system did not do what a build needed, retries included. */
  systemError(system: 'registry' | 'git', kind: ErrorKind): void
}

type StatusResult = 'set' | 'failed' | 'refused'

/**
 * What became of an attempt: the build has ended; another attempt follows; another worker has the build; or the store
 * could not be told.
 */
type AttemptOutcome = 'ended' | 'retried' | 'superseded' | 'unstored'

/** One attempt at a build, with its phases. */
export interface AttemptObserver extends PhaseListener {
  /** How many steps the image's build had, and how many of them came from the cache. */
  steps(steps: { total: number; cached: number }): void
  /** Reads the timeline of the attempt, before it is over. */
  timeline(read: () => Timeline): void
  /** The success is stored. */
  published(origin: (RegistryImage | LocalImage)['origin']): void
  /** Another worker may have the build now. */
  leaseLost(): void
  /** The attempt is over; called once. @param error why it failed, or null */
  over(outcome: AttemptOutcome, error: ConveyorError | null): void
  /** The build has ended, and that is stored; called after `over('ended')`. */
  ended(build: Build): void
}

const NO_ATTEMPT: AttemptObserver = {
  phaseBegan() {},
  phaseEnded() {},
  steps() {},
  timeline() {},
  published() {},
  leaseLost() {},
  over() {},
  ended() {},
}

/** Sees nothing. */
export const NO_OBSERVER: BuildObserver = {
  attempt: () => NO_ATTEMPT,
  ended() {},
  commitStatus() {},
  systemError() {},
}
