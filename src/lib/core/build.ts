import type { ErrorKind } from './errors.ts'

/**
 * The nouns of Conveyor. A BuildRequest becomes a Build, a Build that succeeds publishes an Artifact.
 * Times are ISO 8601 strings in UTC, so that a value looks the same in the store, the API and a log.
 */

/** What was pushed: a branch or a git tag. */
export interface Ref {
  kind: 'branch' | 'tag'
  /** Short name, without `refs/heads/` or `refs/tags/`; may contain slashes. */
  name: string
}

/**
 * What a push says of itself, in GitHub's payload; believed only when that is signed. It places the push among
 * others, in whatever order they arrive: see push-order.ts.
 */
export interface PushFacts {
  /** What the ref pointed at before; forty zeros where it is new. */
  before: string
  /** What it points at since; of an annotated tag, the id of the tag object. */
  after: string
  /** `repository.pushed_at`, in seconds since 1970; null where it was not told. */
  pushedAt: number | null
}

/** A docker tag that a request does not move, and why: a clause for the log and the API's answer. */
export interface Withheld {
  tag: string
  reason: string
}

/** What somebody asked for. Everything in it has been validated (see validate.ts). */
export interface BuildRequest {
  /** `owner/name` as the forge spells it. */
  repository: string
  /** Full commit id: 40 (SHA-1) or 64 (SHA-256) lower-case hex digits. */
  sha: string
  /** What was pushed, or null when only a sha was asked for. */
  ref: Ref | null
  /** The repository's default branch where the asker knew it. */
  defaultBranch: string | null
  /** False switches off every cache: the engine's, and the import from earlier images. */
  cache: boolean
  /**
   * Id of the commit's tree, where the asker knows it for certain: a commit with the tree of an earlier one
   * need not even be fetched.
   */
  tree?: string
  /**
   * A sequence number that was reserved before `sha` was looked up as the head of `ref`, so that a push
   * that arrives during the look-up counts as newer. Absent: the store decides.
   */
  sequence?: number
  /** Of a signed push. */
  push?: PushFacts
  /** Anybody can have sent this: its ref counts only if the git server says that it contains the commit. */
  unproven?: boolean
  /** Of a request for a sha alone: the branch that was seen to contain the commit, so that `latest` may move. */
  within?: Ref
  /** Tags that were not to be moved, as the ref that was asked for does not contain the commit. */
  withheld?: Withheld[]
  /** Who asked. A webhook's `delivery` is GitHub's unique id, and repeats on a redelivery. */
  source: { kind: 'webhook'; delivery: string } | { kind: 'api' } | { kind: 'cli' }
}

/** `pending -> building -> succeeded | failed | cancelled`; `building -> pending` when tried again. */
export type BuildState = 'pending' | 'building' | 'succeeded' | 'failed' | 'cancelled'

/** One ref that a build publishes to, with the position of its push among all accepted requests. */
export interface BuildRef extends Ref {
  /** Later pushes have larger numbers. A docker tag never moves to a smaller one. */
  sequence: number
  /** Set where the git server has to be asked whether the ref contains the commit, before a tag moves. */
  unproven?: true
}

/** A request that was accepted. At most one build per (repository, sha) is pending or building. */
export interface Build {
  /** UUID. */
  id: string
  /** Position of the (first) request among all that were accepted; unique and growing. */
  sequence: number
  repository: string
  sha: string
  /** Every ref that asked for this build, oldest first; empty when only the sha was asked for. */
  refs: BuildRef[]
  defaultBranch: string | null
  cache: boolean
  /** Id of the commit's tree, if it was told with the request. */
  tree: string | null
  /**
   * The position that decides whether `latest` may move to this build: that of its newest known push. 0 where
   * there is none: it does not move.
   */
  pushOrder: number
  /** Absent where nothing was withheld. */
  withheld?: Withheld[]
  state: BuildState
  /** How many times a worker has begun it. Also the fencing token: see BuildStore.finish. */
  attempt: number
  /**
   * How many of these do not count, as they were cut off with a process that ran other builds, too: nobody can
   * tell which of them ended it. Absent for none.
   */
  spared?: number
  /** Such a process may have ended by this one: no other build runs beside it. Else absent. */
  suspect?: true
  /** Why it failed or was cancelled, for people; null otherwise. */
  error: string | null
  /** What kind of failure it was; null unless it failed or was cancelled. */
  errorKind: ErrorKind | null
  createdAt: string
  startedAt: string | null
  completedAt: string | null
}

/** An image that a Dockerfile builds on (FROM, COPY --from, a frontend), and what it was at that time. */
export interface BaseImage {
  /** As BuildKit names it, `docker.io/library/node:24`. */
  name: string
  /**
   * Where its name was resolved: in its registry; in the engine, which prefers an image of its own with
   * that name; or nowhere, as the Dockerfile itself names the digest.
   */
  resolved: 'registry' | 'engine' | 'pinned'
  /** Digest of the manifest (`registry`, `pinned`) or id of the image (`engine`), `sha256:...`. */
  digest: string
}

/**
 * What an image is made from, each part as a SHA-256 in hex. Builds with equal recipes whose base images
 * are what they were make the same image.
 */
export interface Recipe {
  /** Every file of the context after .dockerignore: path, kind, mode, content. */
  context: string
  /** The Dockerfile: path and content. */
  dockerfile: string
  /** Arguments, network and whatever else is set outside of the repository. */
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
  /** What the image was made from; null when that is not known. */
  recipe: Recipe | null
  /** Id of the tree of its commit; null when that was not noted. */
  tree: string | null
  /** Its base images; null when they are not known for certain, so that it is never reused by content. */
  bases: BaseImage[] | null
  createdAt: string
}

/** Whether a build can still change. */
export function isEnded(state: BuildState): boolean {
  return state === 'succeeded' || state === 'failed' || state === 'cancelled'
}

/** `owner/name@0123456`: how a build is called in logs and messages. */
export function shortName(build: { repository: string; sha: string }): string {
  return `${build.repository}@${build.sha.slice(0, 7)}`
}
