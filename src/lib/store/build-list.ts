import type { Build, BuildState, Ref } from '../core/build.ts'

/** Which builds to list: those that fit all of it. */
export interface BuildFilter {
  /** `owner/name` in any case. */
  repository?: string
  /** The exact name of a branch that the build was requested for. */
  branch?: string
  state?: BuildState
  /** ISO 8601 in UTC: created then or later. */
  since?: string
  /** Sequence number of a build: only those before it. */
  before?: number
  /**
   * Plain text, in any case, that the commit's title, the repository or a branch contains, or with which the sha begins.
   * If it is at least 7 digits of a sha that was built, only that commit's builds are meant.
   */
  text?: string
  /** The repositories that the reader may see, as in allowed-repositories.ts; absent for all, empty for none. */
  allowed?: readonly string[]
}

/** A build, and the image that it published: `registry/repo@sha256:...`. */
export interface ListedBuild {
  build: Build
  image: string | null
}

/**
 * Builds, newest first. With `next`, there may be more: a page may be shorter than its limit, even empty, as only five
 * thousand builds are looked through at a time.
 */
export interface BuildPage {
  builds: ListedBuild[]
  /** Opaque, for the page of older builds; null after the last one. */
  next: string | null
}

export interface ListPage {
  /** At least 1. */
  limit: number
  /** `next` of the page before, with the same filter. */
  cursor?: string
}

/** Which repositories to list, and how many. */
export interface RepositoryListing extends ListPage {
  /** As in BuildFilter. */
  allowed?: readonly string[]
}

/** Repositories, the one that was built last first. One that is built meanwhile moves to the front. */
export interface RepositoryPage {
  repositories: { name: string; last: ListedBuild }[]
  next: string | null
}

/** A branch or git tag of a repository. */
export interface BuiltRef {
  ref: Ref
  last: ListedBuild
  /** The newest image that was published for it; null if none of its last thousand builds published one. */
  image: string | null
}

/** Makes a request that is sent again get the same build. */
export interface IdempotencyKey {
  /** Unique among the requests of all senders; at most 255 characters. */
  key: string
  /** Tells requests apart: a digest of everything in it. */
  body: string
}

/** A webhook delivery that built nothing. */
export interface IgnoredDelivery {
  /** The forge's id. */
  id: string
  /** `push`, `ping`, ... */
  event: string
  /** Null if the delivery names none. */
  repository: string | null
  /** As in the payload, `refs/heads/main`; null if the delivery names none. */
  ref: string | null
  /** Why nothing was built, one line. */
  reason: string
  at: string
}

/** With `sha`, what was pushed to `ref`: for an annotated tag, the id of the tag object. */
export type NewIgnored = Omit<IgnoredDelivery, 'at'> & { sha?: string | null }

interface IgnoredListing extends ListPage {
  /** `owner/name` in any case. */
  repository?: string
  /** As in BuildFilter. With it, deliveries that name no repository are left out. */
  allowed?: readonly string[]
}

/** The deliveries of the last 30 days that built nothing, at most 10,000. */
export interface IgnoredDeliveries {
  /** Adds a delivery, unless it is known. */
  add(delivery: NewIgnored): Promise<void>
  /** Newest first. @throws ConveyorError `invalid` for a cursor of another filter */
  list(listing: IgnoredListing): Promise<{ deliveries: IgnoredDelivery[]; next: string | null }>
}
