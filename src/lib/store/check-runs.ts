import type { Build } from '../core/build.ts'

/**
 * Who makes the check run of a build: it has this id; or this caller makes it now (`mayExist`: an earlier one may have
 * before it died); or another caller is at it; or there is none, as the forge refused it: commit statuses stand for the build.
 */
type CheckRunState = { id: number } | { id: null; mayExist: boolean } | 'busy' | 'refused'

/** The check run of each build, at most one of them. */
export interface CheckRuns {
  /** For so many seconds, only this caller makes the check run of the build, if there is none yet; see `settle`. */
  begin(buildId: string, seconds: number): Promise<CheckRunState>
  /**
   * What came of it: the id of the run; `none` was made; `unknown`, as the forge did not answer; or `refused`, after which
   * this build has none.
   */
  settle(buildId: string, outcome: number | 'none' | 'unknown' | 'refused'): Promise<void>
  /** Builds that were accepted at least `seconds` ago, are still pending, and of which `begin` was never asked; oldest first. */
  missing(seconds: number, limit: number): Promise<Build[]>
}
