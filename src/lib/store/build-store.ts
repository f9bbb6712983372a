import type { Artifact, BaseImage, Build, BuildRequest, Recipe, Ref } from '../build/build.ts'
import type { SyncRecords } from '../buildkit/file-times.ts'
import type { ErrorKind } from '../errors.ts'

/**
 * What became of a request: a new build; the pending or building build of the same (repository, sha),
 * which now also publishes to the request's ref; or the build that the same webhook delivery asked for
 * before.
 */
export interface Accepted {
  build: Build
  /** Whether the queue has the build already; see BuildStore.markQueued. */
  queued: boolean
  outcome: 'created' | 'joined' | 'redelivered'
}

/** How one attempt at a build ended for good. */
export type BuildResult =
  | {
      state: 'succeeded'
      image: string
      tags: string[]
      recipe?: Recipe | null
      tree?: string | null
      bases?: BaseImage[] | null
    }
  | { state: 'failed' | 'cancelled'; error: string; errorKind: ErrorKind }

/**
 * - `finished`: the result is stored.
 * - `superseded`: another attempt owns the build now (the lease was lost); nothing was stored.
 * - `refs_added`: another ref joined the build since `refsSeen`; nothing was stored. Read the build
 *   again, publish the new ref, and finish again.
 */
export type Finish = 'finished' | 'superseded' | 'refs_added'

/** A docker tag that a build wants to move, and the position of the push that wants it. */
export interface TagMove {
  tag: string
  sequence: number
}

/** Builds, their artifacts, webhook deliveries, and who may move which docker tag. */
export interface BuildStore {
  /** What each BuildKit has of each repository's files. */
  readonly syncs: SyncRecords

  /**
   * Stores a request durably before it resolves, in one transaction with its delivery id and its ref.
   *
   * Sequence numbers: a webhook's ref takes the next number, or `request.sequence`. A ref asked for
   * otherwise takes `request.sequence`, else the number that the same (repository, sha, ref) was last
   * pushed with, else the next number. `pushOrder` follows the newest of the refs; with no ref it is
   * that of the newest earlier build of the same (repository, sha), else the build's own sequence.
   */
  accept(request: BuildRequest): Promise<Accepted>

  /** Takes the next sequence number (see BuildRequest.sequence). */
  reserveSequence(): Promise<number>

  /** The build with this id, or null. Any string may be asked for. */
  get(id: string): Promise<Build | null>

  /** The newest build of a commit, or null. */
  newest(repository: string, sha: string): Promise<Build | null>

  /** Every build that is pending or building, oldest first: what a queue in memory is filled with at a start. */
  unfinished(): Promise<Build[]>

  /** Notes that the queue has taken a build, so that nobody sends it again. */
  markQueued(id: string): Promise<void>

  /** Pending builds that were accepted at least `seconds` ago and that no queue has taken, oldest first. */
  unqueued(seconds: number): Promise<Build[]>

  /**
   * Begins an attempt: state becomes `building`, `attempt` grows by one, startedAt is set the first time.
   * Takes over a build that another worker was building (its lease ended, or it died).
   * Null when there is no such build or it has ended.
   */
  claim(id: string): Promise<Build | null>

  /**
   * The same, where the queue may deliver a job while another worker still has it: the build is this
   * worker's alone for so many seconds, and `held` while it is another's.
   */
  claimFor(id: string, seconds: number): Promise<Build | 'held' | null>

  /** Prolongs what `claimFor` gave. False when `attempt` is not the current one. */
  hold(id: string, attempt: number, seconds: number): Promise<boolean>

  /**
   * Gives a build back to be tried again: `building -> pending`. False when `attempt` is not the current
   * one. With `counts: false` the attempt is taken back too (a worker that was asked to stop).
   */
  release(id: string, attempt: number, options?: { counts?: boolean }): Promise<boolean>

  /** Ends a build, in one transaction with its artifact. Only the current attempt may. */
  finish(id: string, attempt: number, refsSeen: number, result: BuildResult): Promise<Finish>

  /** The artifact with this id, or null. */
  artifact(id: string): Promise<Artifact | null>

  /** The artifact of a build, or null. */
  artifactOf(buildId: string): Promise<Artifact | null>

  /** The newest artifact of a commit, or null. */
  newestArtifact(repository: string, sha: string): Promise<Artifact | null>

  /** Artifacts of a repository that were made from this recipe, newest first, at most `limit`. */
  artifactsByRecipe(repository: string, recipe: Recipe, limit: number): Promise<Artifact[]>

  /** Artifacts of a repository whose commit had this tree, newest first, at most `limit`. */
  artifactsByTree(repository: string, tree: string, limit: number): Promise<Artifact[]>

  /** The newest artifact that was published for one of these refs, or without refs any of the repository. */
  lastArtifact(repository: string, refs: Ref[]): Promise<Artifact | null>

  /**
   * Artifacts of a repository that a docker tag was pointed at, `registry/repo:tag`, newest push first, at
   * most `limit`. The first one is where it points, unless a build that is still running has moved it on.
   */
  artifactsTagged(repository: string, name: string, limit: number): Promise<Artifact[]>

  /** Every commit that an image was published for, oldest first. */
  commitsOf(image: string): Promise<string[]>

  /**
   * The newest artifact of each of the `limit` repositories that were built last, newest first; of builds
   * that are thousands back, none.
   */
  recentArtifacts(limit: number): Promise<Artifact[]>

  /**
   * Moves docker tags forward, never back. While it runs nobody else moves tags of `imageName`.
   * Each tag whose recorded position is not greater than the wanted one is recorded first (so that a
   * crash can not let an older push overtake) and then given to `put`; all puts run side by side.
   * Resolves to the tags that moved, in the order given; the others belong to a newer push.
   * @throws the first error of `put`, after all of them have ended.
   */
  moveTags(imageName: string, moves: TagMove[], put: (tag: string) => Promise<void>): Promise<string[]>

  /** Ended builds whose final commit status has not been accepted by the forge yet, oldest first. */
  unreported(): Promise<Build[]>

  /** Notes that the final commit status of an ended build is set, or never can be. */
  markReported(id: string): Promise<void>

  close(): Promise<void>
}
