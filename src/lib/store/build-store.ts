import type { AccessTokens } from '../core/access/access-token.ts'
import type { Sessions } from '../core/access/session.ts'
import type { Artifact, BaseImage, Build, BuildRequest, CommitInfo, Recipe, Ref } from '../core/build.ts'
import type { ErrorKind } from '../core/errors.ts'
import type { Push } from '../core/push-order.ts'
import type { SyncRecords } from '../core/sync-records.ts'
import type { Timeline, TimelineSummary } from '../core/timeline.ts'
import type {
  BuildFilter,
  BuildPage,
  BuiltRef,
  IdempotencyKey,
  IgnoredDeliveries,
  ListPage,
  RepositoryListing,
  RepositoryPage,
} from './build-list.ts'
import type { CheckRuns } from './check-runs.ts'
import type { Comparisons } from './comparisons.ts'
import type { Leases, WaitingPage, Workers } from './fleet.ts'
import type { Notifications } from './notifications.ts'
import type { PullRequests } from './pulls.ts'

/**
 * The result of a request: a new build; the pending or building build of the same (repository, sha), unless it is being
 * cancelled, which now also publishes for the request's ref; or the build that the same webhook delivery, or another delivery of the same push,
 * requested before.
 */
export interface Accepted {
  build: Build
  /** Whether the queue already has the build; see BuildStore.markQueued. */
  queued: boolean
  outcome: 'created' | 'joined' | 'redelivered'
  /** The builds that it superseded, as they are now: cancelled, or building and to be. Absent for none. */
  superseded?: Build[]
}

/** The final result of a build. */
export type BuildResult =
  | {
      state: 'succeeded'
      image: string
      tags: string[]
      recipe?: Recipe | null
      tree?: string | null
      bases?: BaseImage[] | null
    }
  | {
      state: 'failed' | 'cancelled'
      error: string
      errorKind: ErrorKind
      /** It failed because there is no Dockerfile; see Build.neutral. */
      noDockerfile?: boolean
    }

/**
 * - `finished`: the result is stored.
 * - `superseded`: another attempt owns the build now, as the lease was lost; nothing was stored.
 * - `cancel_requested`: the build is to end as `cancelled`; nothing was stored.
 * - `refs_added`: another ref has joined the build since `refsSeen`; nothing was stored. Read the build again, publish
 *   for the new ref, and finish again.
 */
export type Finish = 'finished' | 'superseded' | 'cancel_requested' | 'refs_added'

/** A Docker tag that a build wants to move, and the position of the push behind it. */
export interface TagMove {
  tag: string
  sequence: number
  /** The ref that the tag belongs to. */
  owner?: {
    ref: Ref
    /** Alternative names, best first, if `tag` belongs to another ref. */
    others: string[]
  }
  /**
   * The tag is shared by all refs, such as `latest`, and moves in the order of their pushes. With a ref, it only moves if
   * that ref owns the Docker tag `as`, and has nothing newer there.
   */
  shared?: { ref: Ref; as: string } | true
}

/** Decides between two pushes whose order is in doubt: resolves to whether `candidate` is the newer one. */
export type Settle = (candidate: Push, recorded: Push, others: Push[]) => Promise<boolean>

/** The timeline of each build. */
export interface Timelines {
  /**
   * Stores the timeline of a build, within its limits (see boundedTimeline). It replaces an earlier one of the same or an
   * earlier attempt, but not that of a later attempt.
   */
  put(buildId: string, timeline: Timeline): Promise<void>
  /** The timeline of a build; null if there is none (yet). Accepts any string. */
  get(buildId: string): Promise<Timeline | null>
  /** What lists show of the timelines of these builds, at most some hundred; those without one are absent. */
  summaries(buildIds: readonly string[]): Promise<Map<string, TimelineSummary>>
}

/** Stores builds, their artifacts, webhook deliveries, and which push may move which Docker tag. */
export interface BuildStore {
  /** Which files of each repository each BuildKit has. */
  readonly syncs: SyncRecords

  readonly timelines: Timelines

  readonly workers: Workers

  /** Webhooks that are sent when builds end. A build's end and the wish to notify of it are one transaction. */
  readonly notifications: Notifications

  readonly checkRuns: CheckRuns

  readonly leases: Leases

  readonly comparisons: Comparisons

  /** What waits, in turn. `limit` is at least 1. @throws ConveyorError `invalid` for a cursor of another list */
  waiting(listing: RepositoryListing): Promise<WaitingPage>
  /** Tokens for the API. */
  readonly tokens: AccessTokens
  readonly sessions: Sessions

  /** 32 random bytes by name, created on first use; the same in all processes, forever. */
  secret(name: string): Promise<Uint8Array>

  /**
   * Stores a request durably, in one transaction with its delivery id and its ref.
   *
   * Sequence numbers: a webhook's ref gets `request.sequence`, or the next number. A ref requested otherwise gets
   * `request.sequence`, or the number that the same (repository, sha, ref) was last pushed with, or the next number.
   * `pushOrder` is that of the newest of the refs that people push. Without a ref, it is that of the newest earlier build
   * of the same (repository, sha), or `request.sequence`, or the build's own sequence. If tags are withheld, and for
   * branches that a merge queue pushes, it is 0.
   *
   * A signed push with the same contents as an earlier one is taken for that one, whatever its delivery id: only the id
   * is stored. But if the ref had other pushes within that second, it may be a new push back to the same commit, and only
   * the git server can tell.
   *
   * Builds that it supersedes (BuildRequest.supersede) are cancelled in the same transaction, if this push is newer.
   *
   * A request through the API or the CLI that joins a pending build moves it to lane 0; the queue has to be told.
   *
   * Names: the repository is spelled as in its newest signed webhook, if there was one.
   *
   * With a key, a request that was accepted within 24 hours gets the same build again (`redelivered`), also if it was
   * accepted at the same time.
   * @throws KeyReusedError
   */
  accept(request: BuildRequest, key?: IdempotencyKey): Promise<Accepted>

  /** The build that a request with this key got within 24 hours, or null. @throws as accept */
  repeated(key: IdempotencyKey): Promise<Build | null>

  /** Records the build that a request got that did not have to be accepted. @throws as accept */
  keep(key: IdempotencyKey, buildId: string): Promise<void>

  /** Whether a push of this ref, or for null of any ref that people push, has announced the commit. */
  announced(repository: string, sha: string, ref: Ref | null): Promise<boolean>

  /** How signed webhooks spell the repository; null if there was none. */
  spelling(repository: string): Promise<string | null>

  /** Reserves the next sequence number (see BuildRequest.sequence). */
  reserveSequence(): Promise<number>

  /** The build with this id, or null. Accepts any string. */
  get(id: string): Promise<Build | null>

  /**
   * Builds that fit a filter, newest first. Pages neither miss nor repeat a build while others are added.
   * @throws ConveyorError `invalid` for `cursor` (not one of this filter) or `since` (not a time)
   */
  list(filter: BuildFilter, page: ListPage): Promise<BuildPage>

  /** The repositories that were built. @throws ConveyorError `invalid` for a `cursor` of another list */
  repositories(listing: RepositoryListing): Promise<RepositoryPage>

  /** The branches and git tags of a repository that were built, the one built last first. */
  branches(repository: string, limit: number): Promise<BuiltRef[]>

  readonly pulls: PullRequests

  /** Webhook deliveries that built nothing. */
  readonly ignored: IgnoredDeliveries

  /** Records what a build's commit says about itself, unless it is known. */
  describe(id: string, commit: CommitInfo): Promise<void>

  /** Builds whose id begins with this, at most `limit`. Accepts any string. */
  startingWith(prefix: string, limit: number): Promise<Build[]>

  /** Commits of a repository that were requested, and whose id begins with this, at most `limit`. Accepts any string. */
  commitsStartingWith(repository: string, prefix: string, limit: number): Promise<string[]>

  /** The newest build of a commit, or null: not of a fork, unless `pull` names its pull request, or is `any`. */
  newest(repository: string, sha: string, pull?: number | 'any' | null): Promise<Build | null>

  /** Every pending or building build, oldest first; `turn` orders them. Fills an in-memory queue at startup. */
  unfinished(): Promise<Build[]>

  /** Records that the queue has a build, so that it is not sent again. */
  markQueued(id: string): Promise<void>

  /** Pending builds that were accepted at least `seconds` ago and that no queue has, oldest first. */
  unqueued(seconds: number): Promise<Build[]>

  /**
   * Unfinished builds that the queue should have delivered by now, oldest first: pending ones that have been due for
   * `seconds`, and building ones that nobody has held for as long or, if the queue takes care of that, that were started so
   * long ago. Most of them still wait for their turn or run, but the queue may have lost some.
   */
  idle(seconds: number): Promise<Build[]>

  /**
   * Starts an attempt: the state becomes `building`, `attempt` grows by one, startedAt is set the first time. Takes over
   * a build of another worker, whose lease ended or that died. If that worker had other builds at the same time, another
   * one may have killed it: the interrupted attempt does not count (`spared`), and each of these builds is a `suspect`
   * until it has ended. A claimed suspect has not started yet: see `begin`. This process itself is alive: what it takes over
   * from itself, as after an outage of the store, is no suspect.
   * Null if there is no such build or it has ended.
   */
  claim(id: string): Promise<Build | null>

  /**
   * The same for queues that may deliver a job while another worker still has it: this worker holds the build for so many
   * seconds. `held` while another worker holds it.
   */
  claimFor(id: string, seconds: number): Promise<Build | 'held' | null>

  /** Starts a suspect, as the only build of its process. False if `attempt` is no longer the current one. */
  begin(id: string, attempt: number): Promise<boolean>

  /** Extends the hold of `claimFor`. False if `attempt` is no longer the current one. */
  hold(id: string, attempt: number, seconds: number): Promise<boolean>

  /**
   * Releases a build to be retried: `building -> pending`. False if `attempt` is no longer the current one, or if the
   * build is to end as `cancelled`. With `counts: false` the attempt does not count, as for a worker that shuts down.
   * `retryIn` says in how many seconds it is retried, for people.
   */
  release(id: string, attempt: number, options?: { counts?: boolean; retryIn?: number }): Promise<boolean>

  /**
   * Reports that this process is alive although builds were taken over from it, as after an outage of the store: those
   * builds are no longer suspects.
   */
  survived(): Promise<void>

  /**
   * Asks for a build to be cancelled. A pending build ends at once, as `cancelled`. For a building one this is recorded:
   * it cannot succeed, fail or be retried any more, and the attempt that finds out ends it as `cancelled`; the first of
   * several requests counts. Resolves to the build as it is now; null if it has ended, is moving its tags, or does not
   * exist.
   */
  requestCancel(id: string, by: string): Promise<Build | null>

  /** Which of these builds are building and to be cancelled, and by whom. */
  cancelRequests(ids: readonly string[]): Promise<{ id: string; by: string }[]>

  /**
   * The last moment for a cancel: from here on, until this attempt ends, `requestCancel` leaves the build alone, so that
   * it is not cancelled with half of its tags moved. Resolves to the build with the refs that it has now.
   */
  beginPublish(id: string, attempt: number): Promise<Build | 'superseded' | 'cancel_requested'>

  /** Takes `beginPublish` back for an attempt that has to build first: it can be cancelled again. */
  cancelPublish(id: string, attempt: number): Promise<void>

  /** Ends a build, in one transaction with its artifact. Only the current attempt can. */
  finish(id: string, attempt: number, refsSeen: number, result: BuildResult): Promise<Finish>

  /** The artifact with this id, or null. */
  artifact(id: string): Promise<Artifact | null>

  /** The artifact of a build, or null. */
  artifactOf(buildId: string): Promise<Artifact | null>

  /** The newest artifact of a commit, or null. Like the next two, never one that was built for a fork. */
  newestArtifact(repository: string, sha: string): Promise<Artifact | null>

  /** Artifacts of a repository that were built from this recipe, newest first, at most `limit`. */
  artifactsByRecipe(repository: string, recipe: Recipe, limit: number): Promise<Artifact[]>

  /** Artifacts of a repository whose commit had this tree, newest first, at most `limit`. */
  artifactsByTree(repository: string, tree: string, limit: number): Promise<Artifact[]>

  /** The newest artifact that was published for one of these refs, or without refs any of the repository but those for forks. */
  lastArtifact(repository: string, refs: Ref[]): Promise<Artifact | null>

  /**
   * Artifacts of a repository that a Docker tag, `registry/repo:tag`, has pointed to, newest push first, at most `limit`.
   * It points to the first one, unless a build that is still running has moved it.
   */
  artifactsTagged(repository: string, name: string, limit: number): Promise<Artifact[]>

  /** The commits that an image was published for, oldest first. */
  commitsOf(image: string): Promise<string[]>

  /**
   * The newest artifact of each of the `limit` repositories that were built last, newest first. Does not go back further
   * than some thousands of builds.
   */
  recentArtifacts(limit: number): Promise<Artifact[]>

  /**
   * Moves Docker tags forward, never back. No one else moves tags of `imageName` at the same time.
   *
   * A tag with an owner is moved under the first of its names that no other ref owns, which then belongs to that ref.
   * Moves that are not behind the recorded position (by push-order.ts for tags of refs and shared ones, with `settle`
   * for those in doubt; otherwise by number) are recorded first, so that an older push cannot overtake after a crash, and
   * then passed to `put`, in parallel. Of several moves of a shared tag, the first possible one is made.
   *
   * Resolves to the tags that moved, in the order given; the others belong to a newer push.
   * @throws the first error of `put`, after all calls have settled; what `settle` throws, before any of them
   */
  moveTags(
    imageName: string,
    moves: TagMove[],
    put: (tag: string) => Promise<void>,
    settle?: Settle,
  ): Promise<string[]>

  /**
   * Passes the tag that a ref owns to `remove`, if it owns one, while no one moves tags of the image. The tag stays the
   * ref's.
   * @returns the tag
   * @throws what `remove` throws
   */
  dropTag(imageName: string, ref: Ref, remove: (tag: string) => Promise<void>): Promise<string | null>

  /** Builds that ended at least `seconds` ago and whose final commit status the forge has not accepted yet, oldest first. */
  unreported(seconds?: number): Promise<Build[]>

  /** Whether a build is one of those. */
  isUnreported(id: string): Promise<boolean>

  /** Records that the final commit status of an ended build is set, or never can be. */
  markReported(id: string): Promise<void>

  /** Checks that the store accepts writes. @throws ConveyorError if it does not */
  check(): Promise<void>

  close(): Promise<void>
}
