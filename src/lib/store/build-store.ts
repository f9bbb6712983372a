import type { Artifact, BaseImage, Build, BuildRequest, Recipe, Ref } from '../core/build.ts'
import type { ErrorKind } from '../core/errors.ts'
import type { Push } from '../core/push-order.ts'
import type { SyncRecords } from '../core/sync-records.ts'

/**
 * What became of a request: a new build; the pending or building build of the same (repository, sha),
 * which now also publishes to the request's ref; or the build that the same webhook delivery, or another
 * delivery of the same push, asked for before.
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
  /** The tag is this ref's alone. */
  owner?: {
    ref: Ref
    /** Names for it in place of `tag`, best first, where that is another ref's. */
    others: string[]
  }
  /**
   * The tag is shared by all refs, as `latest` is: it moves by the order of their pushes. With a ref, only if that
   * ref has the docker tag `as`, and has nothing newer there.
   */
  shared?: { ref: Ref; as: string } | true
}

/** Decides what is in doubt between two pushes: resolves to whether `candidate` is the newer one. */
export type Settle = (candidate: Push, recorded: Push, others: Push[]) => Promise<boolean>

/** Builds, their artifacts, webhook deliveries, and who may move which docker tag. */
export interface BuildStore {
  /** What each BuildKit has of each repository's files. */
  readonly syncs: SyncRecords

  /** 32 random bytes by name, made when they are first asked for; the same for all processes, for good. */
  secret(name: string): Promise<Uint8Array>

  /**
   * Stores a request durably before it resolves, in one transaction with its delivery id and its ref.
   *
   * Sequence numbers: a webhook's ref takes the next number, or `request.sequence`. A ref asked for
   * otherwise takes `request.sequence`, else the number that the same (repository, sha, ref) was last
   * pushed with, else the next number. `pushOrder` is that of the newest of the refs that people push; with no
   * ref it is that of the newest earlier build of the same (repository, sha), else `request.sequence`, else the
   * build's own sequence. Where tags were withheld, and of branches that a merge queue pushes, it is 0.
   *
   * A signed push that says the same of itself as an earlier one is that one, whatever its delivery id: nothing
   * is stored but the id. Unless others of the ref were made within that second, so that it may be a new one that
   * leads there again: then the git server alone can say so.
   *
   * Names: a build is called as the newest signed webhook of its repository spells it, if there was one.
   */
  accept(request: BuildRequest): Promise<Accepted>

  /** Whether a push of this ref, or without a ref of any that people push, has announced the commit. */
  announced(repository: string, sha: string, ref: Ref | null): Promise<boolean>

  /** How signed webhooks spell the repository; null when none has named it. */
  spelling(repository: string): Promise<string | null>

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
   * Takes over a build that another worker was building (its lease ended, or it died). Where that worker had other
   * builds at the same time, it was maybe not this one that ended it: the attempt that was cut off does not count
   * (`spared`), and each of these builds is a `suspect` until it has ended. A suspect that is claimed has not begun
   * yet: see `begin`.
   * Null when there is no such build or it has ended.
   */
  claim(id: string): Promise<Build | null>

  /**
   * The same, where the queue may deliver a job while another worker still has it: the build is this
   * worker's alone for so many seconds, and `held` while it is another's.
   */
  claimFor(id: string, seconds: number): Promise<Build | 'held' | null>

  /** A suspect begins, as the only one in its process. False when `attempt` is not the current one. */
  begin(id: string, attempt: number): Promise<boolean>

  /** Prolongs what `claimFor` gave. False when `attempt` is not the current one. */
  hold(id: string, attempt: number, seconds: number): Promise<boolean>

  /**
   * Gives a build back to be tried again: `building -> pending`. False when `attempt` is not the current
   * one. With `counts: false` the attempt is taken back too (a worker that was asked to stop).
   */
  release(id: string, attempt: number, options?: { counts?: boolean }): Promise<boolean>

  /**
   * This process goes on, though builds were taken from it (nobody could reach the store for a while): they are no
   * suspects for that.
   */
  survived(): Promise<void>

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
   *
   * A tag with an owner is moved under the first of its names that no other ref has, and which is that ref's from
   * then on. A move that is not behind what is recorded (by push-order.ts for tags of refs and shared ones, where
   * `settle` decides what is in doubt, else by number) is recorded first, so that a crash cannot let an
   * older push overtake, and then given to `put`; all puts run side by side. Of several moves of a shared tag
   * the first that may is made.
   *
   * Resolves to the tags that moved, in the order given; the others belong to a newer push.
   * @throws the first error of `put`, after all of them have ended; what `settle` throws, before any of them.
   */
  moveTags(
    imageName: string,
    moves: TagMove[],
    put: (tag: string) => Promise<void>,
    settle?: Settle,
  ): Promise<string[]>

  /** Ended builds whose final commit status has not been accepted by the forge yet, oldest first. */
  unreported(): Promise<Build[]>

  /** Notes that the final commit status of an ended build is set, or never can be. */
  markReported(id: string): Promise<void>

  /** Resolves when the store takes writes. @throws ConveyorError when it does not */
  check(): Promise<void>

  close(): Promise<void>
}
