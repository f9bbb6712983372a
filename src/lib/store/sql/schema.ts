import type { Kysely, Transaction } from 'kysely'
import { sql } from 'kysely'
import type { Scope } from '../../core/access/access-token.ts'
import type { BuildSource, BuildState, Ref } from '../../core/build.ts'
import type { ErrorKind } from '../../core/errors.ts'
import type { NotificationFormat, NotificationState } from '../notifications.ts'

/**
 * The tables, with types that SQLite and Postgres share: times are ISO 8601 text, booleans are 1 and 0. Postgres may
 * return a `number` of a bigint column as a string, so readers convert it with Number.
 */
export interface Schema {
  counters: { name: string; value: number }
  builds: BuildsTable
  build_refs: BuildRefsTable
  artifacts: ArtifactsTable
  deliveries: { id: string; build_id: string; created_at: string }
  tag_positions: { image_name: string; tag: string; sequence: number }
  context_syncs: ContextSyncsTable
  /** Secrets shared by all processes; `value` in hex. */
  secrets: { name: string; value: string }
  tag_owners: TagOwnersTable
  pushes: PushesTable
  /** How signed webhooks spell repositories. */
  repositories: { repository_key: string; name: string }
  /** `timeline` and `summary` (TimelineSummary) in JSON; an earlier version stored no summaries. */
  timelines: { build_id: string; attempt: number; timeline: string; summary: string | null }
  access_tokens: AccessTokensTable
  /** Who is signed in, by the SHA-256 of the key in their browser, in hex. */
  sessions: { hash: string; person_id: number; login: string; sealed: string; expires_at: string }
  /** Every repository that was built, and the sequence number of its last build. */
  built_repositories: { repository_key: string; last_sequence: number }
  /** Every ref that was built, and the sequence number of its last build. */
  built_refs: { repository_key: string; kind: Ref['kind']; name: string; last_sequence: number }
  build_texts: BuildTextsTable
  ignored_deliveries: IgnoredDeliveriesTable
  idempotency_keys: IdempotencyKeysTable
  /** The outbox: builds that have ended, and whose notifications have not been made yet. */
  ended_builds: { build_id: string; ended_at: string }
  notifications: NotificationsTable
  /** `info` is the rest of WorkerInfo in JSON. */
  workers: { id: string; info: string; started_at: string; seen_at: string }
  pulls: PullsTable
  pull_heads: PullHeadsTable
  comparisons: ComparisonsTable
  /** Work that only one process does: it is `holder`'s until then. */
  leases: { name: string; holder: string; held_until: string }
  check_runs: CheckRunsTable
}

/** The check run of each build for which one was to be made. */
interface CheckRunsTable {
  build_id: string
  /** Its id at the forge; null if it is not known, or there is none. */
  run_id: number | null
  /** Until when somebody makes it; null if nobody does. */
  making_until: string | null
  /** 1 if the forge accepts none: the build has commit statuses. */
  refused: number
}

interface AccessTokensTable {
  id: string
  /** SHA-256 of its text, in hex. */
  hash: string
  name: string
  scope: Scope
  /** A JSON array of globs; an empty one for all. */
  repositories: string
  created_by: string
  created_at: string
  expires_at: string | null
  last_used_at: string | null
  revoked_at: string | null
}

/** The ref that owns a Docker tag: the first one that had it. Rows are never changed. */
interface TagOwnersTable {
  image_name: string
  tag: string
  kind: Ref['kind']
  name: string
}

/** Every request with its own position among those that move tags: see push-order.ts. */
interface PushesTable {
  /** Referenced by `build_refs.sequence`, `builds.push_order` and `tag_positions.sequence`. */
  sequence: number
  repository_key: string
  sha: string
  kind: Ref['kind'] | null
  name: string | null
  before: string | null
  after: string | null
  /** Seconds since 1970. */
  pushed_at: number | null
  signed: number
  /** 1 if the git server must confirm that the ref contains the commit. */
  unproven: number
  /** 1 if there was an earlier push with the same contents. */
  again: number
  build_id: string
  /** When it was found by comparing heads; null otherwise, and once its webhook has come. */
  found_at: string | null
}

interface BuildsTable {
  id: string
  sequence: number
  repository: string
  /** `repository` in lower case: names are case-insensitive, as on the forge. */
  repository_key: string
  sha: string
  default_branch: string | null
  cache: number
  tree: string | null
  /** A `traceparent`; null for none. */
  trace: string | null
  source: BuildSource | null
  /** Why the server asked for it; null if somebody else did. */
  reason: string | null
  /** Null, like the two after it, until what the commit says is known. */
  commit_title: string | null
  commit_author: string | null
  commit_login: string | null
  /** 0 if no push announced the commit. */
  push_order: number
  /** A JSON array of Withheld; null for none. */
  withheld: string | null
  /** The number of the pull request if its commit is a fork's, otherwise 0: such builds are apart from all others. */
  fork: number
  /** Null if it is gone, or not a fork's commit. */
  fork_repository: string | null
  approved_by: string | null
  /** See Turn. */
  lane: 0 | 1
  round: number
  state: BuildState
  attempt: number
  /** 1 if the queue has it. */
  queued: number
  /** Until when its worker holds it, if the queue does not ensure that; otherwise null. */
  held_until: string | null
  /** The process that builds it; null if none has started, or it is unknown. */
  worker: string | null
  /** The process that died with it and other builds: it must run alone now. */
  suspect: string | null
  /** When it may be tried again, after an attempt that failed; null if none has. */
  retry_at: string | null
  /** How many attempts do not count. */
  spared: number
  /** 1 if a ref that the running attempt knows was pushed again since that attempt last checked. */
  ref_repushed: number
  /** Who asked for it to be cancelled; null if nobody did. */
  cancel_by: string | null
  cancel_at: string | null
  /** Id and sha of the build that it is or was cancelled for; null for none. */
  superseded_by: string | null
  superseded_sha: string | null
  /** 1 if the forge is told nothing; see Build.neutral. */
  neutral: number
  /** 1 from when the running attempt moves tags: it can no longer be cancelled. */
  publishing: number
  error: string | null
  error_kind: ErrorKind | null
  /** 1 if the final commit status is done. */
  reported: number
  created_at: string
  started_at: string | null
  completed_at: string | null
}

interface BuildRefsTable {
  build_id: string
  kind: Ref['kind']
  name: string
  sequence: number
  /** Orders the refs of a build by when they joined; unlike `sequence` it never changes. */
  position: number
  /** Of the build, to find builds by ref; null, like the next, if an earlier version wrote the row: see `placeRefs`. */
  repository_key: string | null
  /** The build's own sequence number. */
  build_sequence: number | null
}

/** The pull requests that webhooks have told of, as they are now. */
interface PullsTable {
  repository_key: string
  number: number
  /** A PullRequest in JSON, without what has a column. */
  info: string
  head_sha: string
  /** 1 if its commits are in another repository. */
  fork: number
  open: number
  /** 1 once the tag of a closed one is gone, or stays. */
  cleaned: number
  updated_at: string
}

/** The heads that pull requests have, or had. */
interface PullHeadsTable {
  repository_key: string
  number: number
  head_sha: string
}

/** What builds are searched for by text. */
interface BuildTextsTable {
  /** The build's sequence number. */
  sequence: number
  /** The first 6 digits. */
  sha: string
  /** Lines in lower case: the commit's title, empty while unknown; the repository; its refs, as far as they fit. */
  text: string
}

/** Webhook deliveries that built nothing. */
interface IgnoredDeliveriesTable {
  /** Grows from delivery to delivery. */
  number: number
  id: string
  event: string
  repository: string | null
  repository_key: string | null
  ref: string | null
  reason: string
  created_at: string
  /** What was pushed, `after` of the payload; null if it has none, or an earlier version wrote the row. */
  sha: string | null
}

/** What the branches and git tags of a repository were when they were last compared with its builds. */
interface ComparisonsTable {
  repository_key: string
  /** As packHeads writes them; null before the first comparison. */
  heads: Uint8Array | null
  /** Pushes with a greater sequence number were accepted after `heads` were looked up. */
  sequence: number
  /** A JSON array of WaitingHead. */
  waiting: string
  /** When the next one is due. */
  next_at: string
  /** When the last one ended; null before the first. */
  compared_at: string | null
  /** Why that failed; null if it did not. */
  error: string | null
}

/** Requests that may be repeated and then get the same build. */
interface IdempotencyKeysTable {
  key: string
  /** Tells different requests with one key apart. */
  body: string
  build_id: string
  created_at: string
}

/** Webhooks that are sent, or were: see Notification. */
interface NotificationsTable {
  id: string
  build_id: string
  /** Among the notifications of its build. */
  position: number
  target: string
  origin: string
  format: NotificationFormat
  tag: string | null
  state: NotificationState
  /** How many tries have begun; the fencing token of the last one. */
  attempts: number
  /** How many tries may follow. */
  tries_left: number
  /** When it is sent next, if it is pending; while it is being sent, when another process may take it for lost. */
  due_at: string
  status: number | null
  answer: string | null
  error: string | null
  took_ms: number | null
  created_at: string
  attempted_at: string | null
}

interface ArtifactsTable {
  id: string
  build_id: string
  image: string
  /** A JSON array of strings. */
  tags: string
  /** SHA-256 of the recipe, to find equal ones; null without a recipe. */
  recipe_key: string | null
  /** A Recipe in JSON. */
  recipe: string | null
  tree: string | null
  /** A JSON array of BaseImage. */
  bases: string | null
  created_at: string
}

/** The files of a repository that a BuildKit has. */
interface ContextSyncsTable {
  /** Endpoint.id of the BuildKit. */
  buildkit: string
  repository_key: string
  /** Identifies the sync that started last; empty once it has succeeded. */
  token: string
  /** The token that the last sync found when it started. */
  previous: string | null
  /** As serialized by FileTimes. */
  files: Uint8Array | null
  updated_at: string
}

/** Anything that runs queries: the database, or a transaction. */
export type Queries = Kysely<Schema> | Transaction<Schema>

/**
 * Spelled out rather than bound: a partial index only serves queries that repeat its condition. And SQLite plans a query
 * again each time that it runs if it binds a value for a column that must equal something in such a condition.
 */
export const inFlight = sql<boolean>`builds.state in ('pending', 'building')`
export const waiting = sql<boolean>`builds.state = 'pending'`
export const building = sql<boolean>`builds.state = 'building'`
export const succeeded = sql<boolean>`builds.state = 'succeeded'`
export const notCancelled = sql<boolean>`builds.cancel_by is null`
export const ended = sql<boolean>`builds.state not in ('pending', 'building')`
export const isSigned = sql<boolean>`pushes.signed = 1`
export const notReported = sql<boolean>`builds.reported = 0`

/** A text that every database accepts: Postgres cannot store null characters. */
export function storable(text: string): string {
  return text.replaceAll('\0', '\ufffd').toWellFormed()
}

/** StoreDialect.time from the clock of this process. */
export function clockTime(now: () => Date = () => new Date()) {
  return (inSeconds = 0) => sql<string>`${new Date(now().getTime() + inSeconds * 1000).toISOString()}`
}
