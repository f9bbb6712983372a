import type { ErrorKind } from './errors.ts'
import { oneLine } from './one-line.ts'
import type { ForkOrigin } from './pull-request.ts'

/**
 * The nouns of Conveyor. A BuildRequest becomes a Build, a Build that succeeds publishes an Artifact.
 * Times are ISO 8601 strings in UTC, so that a value looks the same in the store, the API and a log.
 */

/** What was pushed: a branch or a git tag; or the pull request whose head a commit is. */
export interface Ref {
  kind: 'branch' | 'tag' | 'pull'
  /** Short name, without `refs/heads/` or `refs/tags/`; may contain slashes. The number of a pull request. */
  name: string
}

/** The commit that a branch or git tag points to. */
export interface Head {
  ref: Ref
  sha: string
  /** What the ref itself holds: the id of the tag object for an annotated tag, otherwise `sha`. */
  object: string
}

/**
 * What GitHub's payload says about a push; trusted only if it is signed. It orders pushes, in whatever order they
 * arrive: see push-order.ts.
 */
export interface PushFacts {
  /** Where the ref pointed before; forty zeros if it is new. */
  before: string
  /** Where it points now; for an annotated tag, the id of the tag object. */
  after: string
  /** `repository.pushed_at`, in seconds since 1970; null if the payload lacks it. */
  pushedAt: number | null
}

/** A docker tag that a request does not move, and why: a clause for the log and the API's answer. */
export interface Withheld {
  tag: string
  reason: string
}

/** Who asked for a build; `server`: Conveyor itself, and Build.reason says why. */
export type BuildSource = 'webhook' | 'api' | 'cli' | 'server'

/** What a commit says about itself; anyone may have written it. Each text is one line of printable characters. */
export interface CommitInfo {
  /** The first line of its message, at most 200 characters; may be empty. */
  title: string
  /** The author's name, at most 200 characters; may be empty. */
  author: string
  /** The account at the forge of the author, otherwise of the person who pushed; null if unknown. */
  login: string | null
}

/** A request to build a commit. All fields have been validated (see validate.ts). */
export interface BuildRequest {
  /** `owner/name` as the forge spells it. */
  repository: string
  /** Full commit id: 40 (SHA-1) or 64 (SHA-256) lower-case hex digits. */
  sha: string
  /** What was pushed, or null if only a sha was requested. */
  ref: Ref | null
  /** The repository's default branch; null if the requester does not know it. */
  defaultBranch: string | null
  /** False disables all caches: the engine's, and the import from earlier images. */
  cache: boolean
  /**
   * Id of the commit's tree, if the requester knows it for certain: a commit with the same tree as an earlier one does
   * not even need to be fetched.
   */
  tree?: string
  /**
   * A sequence number that was reserved before `sha` was looked up as the head of `ref`, so that a push
   * that arrives during the lookup counts as newer. If absent, the store assigns one.
   */
  sequence?: number
  /** Present for a signed push. */
  push?: PushFacts
  /** The request is unsigned: its ref counts only if the git server confirms that it contains the commit. */
  unproven?: boolean
  /** For a request without a ref: a branch that contains the commit, so that `latest` may move. */
  within?: Ref
  /** The trace that the build continues: a `traceparent`, see trace-context.ts. */
  trace?: string
  /** Tags that are not moved, as the requested ref does not contain the commit. */
  withheld?: Withheld[]
  /** What the commit says about itself, if the requester knows. */
  commit?: CommitInfo
  /** Present for the commit of a fork, which somebody has approved: `ref` is its pull request. */
  fork?: ForkOrigin
  /**
   * For the push of a branch: this build cancels the earlier ones of that branch alone, which wait or, with `running`, run
   * already. Not those that somebody asked for through the API or the CLI.
   */
  supersede?: 'queued' | 'running'
  /**
   * No webhook announced `sha`, but it is the head of `ref`. Its webhook may still come: it gets the same build. `since`
   * is a sequence number that was reserved before the heads were looked up.
   */
  found?: { since: number }
  /** Where the request came from. A webhook's `delivery` is GitHub's unique id; a redelivery repeats it. */
  source: { kind: 'webhook'; delivery: string } | { kind: 'api' } | { kind: 'cli' } | { kind: 'server' }
  /** Why the server asks for it by itself: a clause for the log, the API and the page, at most 500 characters. */
  reason?: string
}

/** `pending -> building -> succeeded | failed | cancelled`; `building -> pending` when it is retried. */
export type BuildState = 'pending' | 'building' | 'succeeded' | 'failed' | 'cancelled'

/** One ref that a build publishes to, with the position of its push among all accepted requests. */
export interface BuildRef extends Ref {
  /** Grows from push to push. A docker tag never moves to a smaller one. */
  sequence: number
  /** The git server must confirm that the ref contains the commit before a tag moves. */
  unproven?: true
}

/**
 * When a waiting build starts: by lane, then round, then `sequence`, the smallest first. Within a lane, every repository
 * has one build in a round, so that many builds of one do not delay those of the others.
 */
export interface Turn {
  /** 0: somebody asked for it through the API or the CLI, and waits. 1: a push, or the server itself. */
  lane: 0 | 1
  round: number
}

/** Somebody's wish that a build ends. */
interface CancelRequest {
  /** As the login names them, or `API`. */
  by: string
  at: string
}

/**
 * A request that was accepted. At most one build per (repository, sha) is pending or building, besides those whose
 * cancel was requested, and those for the pull requests of forks: these are apart, one for each pull request.
 */
export interface Build {
  /** UUID. */
  id: string
  /** Position of the (first) request among all accepted ones; unique and growing. */
  sequence: number
  repository: string
  sha: string
  /** Every ref that requested this build, oldest first; empty if only the sha was requested. */
  refs: BuildRef[]
  defaultBranch: string | null
  cache: boolean
  /** Id of the commit's tree, if the request had it. */
  tree: string | null
  /** Where its first request came from; null if an earlier version accepted it. */
  source: BuildSource | null
  /** Why the server asked for it by itself; absent if somebody else did. */
  reason?: string
  /** What its commit says about itself; null until that is known. */
  commit: CommitInfo | null
  /**
   * The position of its newest known push, which decides whether `latest` may move to this build. 0 if there is none:
   * `latest` does not move.
   */
  pushOrder: number
  /** The trace that it continues; absent for none. See BuildRequest.trace. */
  trace?: string
  /** Absent if nothing was withheld. */
  withheld?: Withheld[]
  /** Present for the commit of a fork. */
  fork?: ForkOrigin
  /** Its place among the builds that wait. */
  turn: Turn
  state: BuildState
  /** How many times a worker has started it. Also the fencing token: see BuildStore.finish. */
  attempt: number
  /**
   * How many of these do not count, because the process died while it ran other builds, too: any of them may be the
   * cause. Absent for none.
   */
  spared?: number
  /** This build may have been the cause, so no other build runs at the same time. Absent otherwise. */
  suspect?: true
  /** Why it failed or was cancelled, for people to read; null otherwise. */
  error: string | null
  /** The kind of failure; null unless it failed or was cancelled. */
  errorKind: ErrorKind | null
  /** Who asked for it to be cancelled, and when; absent if nobody did. It is `building` until its worker has stopped. */
  cancel?: CancelRequest
  /** The build of a newer push of its branch that it is or was cancelled for; absent for none. */
  supersededBy?: { id: string; sha: string }
  /**
   * It is of no interest to the forge: it ended without an image because the repository has no Dockerfile, or before that
   * was known, and no build of the repository has ever succeeded. It sets no commit status, and a check run is neutral.
   * Absent otherwise.
   */
  neutral?: true
  createdAt: string
  startedAt: string | null
  completedAt: string | null
}

/** An image that a Dockerfile builds on (FROM, COPY --from, a frontend), and its digest at that time. */
export interface BaseImage {
  /** As BuildKit names it, `docker.io/library/node:24`. */
  name: string
  /**
   * Where its name was resolved: in its registry; in the engine, which prefers a local image of that name; or nowhere,
   * as the Dockerfile pins the digest.
   */
  resolved: 'registry' | 'engine' | 'pinned'
  /** Digest of the manifest (`registry`, `pinned`) or id of the image (`engine`), `sha256:...`. */
  digest: string
}

/**
 * What an image is built from, each part as a SHA-256 in hex. Builds with equal recipes and unchanged base images
 * produce the same image.
 */
export interface Recipe {
  /** Every file of the context after .dockerignore: path, kind, mode, content. */
  context: string
  /** The Dockerfile: path and content. */
  dockerfile: string
  /**
   * Build arguments, network and everything else that is configured outside of the repository; without a platform, that
   * of the builder.
   */
  settings: string
}

/** What a succeeded build published. */
export interface Artifact {
  /** UUID. */
  id: string
  buildId: string
  repository: string
  sha: string
  /** The immutable name, `registry/repo@sha256:...`. */
  image: string
  /** Full names of the tags that this build pointed at the image, `registry/repo:tag`. */
  tags: string[]
  /** What the image was built from; null if unknown. */
  recipe: Recipe | null
  /** Id of its commit's tree; null if unknown. */
  tree: string | null
  /** Its base images; null if they are not known for certain, so that it is never reused by content. */
  bases: BaseImage[] | null
  createdAt: string
}

/** Whether a build can still change. */
export function isEnded(state: BuildState): boolean {
  return state === 'succeeded' || state === 'failed' || state === 'cancelled'
}

/** The error of a build that somebody cancelled. */
export function cancelledBy(by: string): string {
  return `cancelled by ${by}`
}

/**
 * The immutable tag of a build: its sha; that of a fork's commit has the number of its pull request in front, as it is
 * not the image of the same commit in the repository. Two dots are invalid in git refs, so no ref gets such a tag.
 */
export function shaTag({ sha, fork }: Pick<Build, 'sha' | 'fork'>): string {
  return fork ? `pr-${fork.pull}..${sha}` : sha
}

/** The error of a build that the build of a newer push replaced. */
export function supersededBy(sha: string): string {
  return `superseded by ${sha.slice(0, 7)}`
}

/** Why a build is or was cancelled, for people. */
export function cancelReason(build: Pick<Build, 'cancel' | 'supersededBy'>): string {
  return build.supersededBy ? supersededBy(build.supersededBy.sha) : cancelledBy(build.cancel?.by ?? '')
}

/** `owner/name@0123456`: the name of a build in logs and messages. */
export function shortName(build: { repository: string; sha: string }): string {
  return `${build.repository}@${build.sha.slice(0, 7)}`
}

/** Anywhere in a commit's message, this disables the cache. */
const NO_CACHE = '[docker nocache]'

/** Whether the message of a commit allows its build to use caches. */
export function mayUseCache(message: string): boolean {
  return !message.includes(NO_CACHE)
}

/** Of each text in CommitInfo, in characters. */
const LONGEST = 200

/** What a commit says about itself, from its whole message; all of it may be hostile. */
export function commitInfo(message: string, author: string | null, login: string | null): CommitInfo {
  const text = message.slice(0, 10 * LONGEST).trimStart()
  return {
    title: short(text.split('\n', 1)[0] ?? ''),
    author: short(author ?? ''),
    login: login && short(login),
  }
}

function short(text: string): string {
  // Again after the cut, which may split a character.
  return oneLine(oneLine(text.slice(0, 10 * LONGEST)).slice(0, LONGEST))
}
