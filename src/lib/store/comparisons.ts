import type { Head, Ref } from '../core/build.ts'

/** A head that no build knows, but its webhook may still come. */
export interface WaitingHead {
  ref: Ref
  sha: string
  /** When it was first seen, ISO 8601 in UTC. */
  since: string
}

/** What was seen of a repository when its heads were last compared with its builds. */
export interface HeadComparison {
  /** As its newest build spells it. */
  repository: string
  /** All heads then, without those that wait, as packHeads packs them; null before the first comparison. */
  heads: Uint8Array | null
  /** A sequence number reserved before they were looked up: pushes with a greater one were accepted later. */
  sequence: number
  waiting: WaitingHead[]
  /** Whether it was built within 30 days. */
  isActive: boolean
}

/** A head that differs from what was seen, or whose ref was pushed since. */
export interface Candidate extends Head {
  /** The commit that its ref pointed to when it was last seen; null if there was none. */
  before: string | null
}

/** The last comparison of a repository, for people. */
export interface LastComparison {
  /** When it ended. */
  at: string
  /** Why it failed; null if it did not. */
  error: string | null
}

/**
 * Finds pushes that no webhook announced: what was seen of each repository's branches and git tags is compared with what
 * is there. Repositories are compared from the first webhook on that is accepted for one; then all heads are known.
 */
export interface Comparisons {
  /** Makes a comparison of every repository due now, active ones first. */
  restart(): Promise<void>

  /** Repositories whose comparison is due, the longest due first. */
  due(limit: number): Promise<HeadComparison[]>

  /** Refs of which a signed push to another commit was accepted after a sequence number. */
  pushedSince(repository: string, sequence: number): Promise<Ref[]>

  /**
   * Those of the candidates that no accepted push knows to be the head of their ref, and whose webhook was not ignored.
   * @param sequence when `before` was looked up
   */
  unknown(repository: string, candidates: Candidate[], sequence: number): Promise<Candidate[]>

  /** Records a comparison; the next one is due after so many seconds. */
  compared(
    repository: string,
    seen: Pick<HeadComparison, 'sequence' | 'waiting'> & { heads: Uint8Array },
    nextInS: number,
  ): Promise<void>

  /** Records why a repository could not be compared; what was seen remains. */
  failed(repository: string, error: string, nextInS: number): Promise<void>

  /** The last comparisons of these repositories, by their names in lower case; absent for those without one. */
  last(repositories: string[]): Promise<Map<string, LastComparison>>
}
