import type { Kysely, Transaction } from 'kysely'
import { sql } from 'kysely'
import type { BuildState, Ref } from '../../core/build.ts'
import type { ErrorKind } from '../../core/errors.ts'

/**
 * The tables, in terms that SQLite and Postgres share: times are ISO 8601 text, yes and no are 1 and 0.
 * A `number` of a bigint column may arrive as a string from Postgres, so readers pass it through Number.
 */
export interface Schema {
  counters: { name: string; value: number }
  builds: BuildsTable
  build_refs: BuildRefsTable
  artifacts: ArtifactsTable
  deliveries: { id: string; build_id: string; created_at: string }
  tag_positions: { image_name: string; tag: string; sequence: number }
  context_syncs: ContextSyncsTable
  /** What all processes share and nobody else is to know; `value` in hex. */
  secrets: { name: string; value: string }
  tag_owners: TagOwnersTable
  pushes: PushesTable
  repositories: { repository_key: string; name: string }
}

/** Which ref has a docker tag: the first that had it. Rows are never changed. */
interface TagOwnersTable {
  image_name: string
  tag: string
  kind: Ref['kind']
  name: string
}

/** Every request that has a place of its own among those that move tags: see push-order.ts. */
interface PushesTable {
  /** What `build_refs.sequence`, `builds.push_order` and `tag_positions.sequence` name. */
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
  /** 1 where the git server has to be asked whether the ref contains the commit. */
  unproven: number
  /** 1 when a push that says the same of itself was known. */
  again: number
  build_id: string
}

interface BuildsTable {
  id: string
  sequence: number
  repository: string
  /** `repository` in lower case: the forge does not tell names apart by case, and neither do we. */
  repository_key: string
  sha: string
  default_branch: string | null
  cache: number
  tree: string | null
  /** 0 where no push announced the commit. */
  push_order: number
  /** A JSON array of Withheld; null for none. */
  withheld: string | null
  state: BuildState
  attempt: number
  /** 1 when the queue has taken it. */
  queued: number
  /** Until when only the worker that has it may build it, where the queue does not see to that; else null. */
  held_until: string | null
  /** The process that has begun to build it; null when none has, or that is not known (any more). */
  worker: string | null
  /** The process that was cut off with it and others: it runs alone now. */
  suspect: string | null
  /** How many attempts do not count. */
  spared: number
  /** 1 when a ref that the running attempt knows was pushed again since that attempt last asked. */
  ref_repushed: number
  error: string | null
  error_kind: ErrorKind | null
  /** 1 when the final commit status needs no more work. */
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
}

interface ArtifactsTable {
  id: string
  build_id: string
  image: string
  /** A JSON array of strings. */
  tags: string
  /** SHA-256 of the recipe, for finding equal ones; null without a recipe. */
  recipe_key: string | null
  /** A Recipe in JSON. */
  recipe: string | null
  tree: string | null
  /** A JSON array of BaseImage. */
  bases: string | null
  created_at: string
}

/** What a BuildKit has of a repository's files. */
interface ContextSyncsTable {
  /** Endpoint.id of the BuildKit. */
  buildkit: string
  repository_key: string
  /** Of the sync that began last; empty once it has ended well. */
  token: string
  /** The token that the last one to begin has found. */
  previous: string | null
  /** As FileTimes writes them. */
  files: Uint8Array | null
  updated_at: string
}

/** Whatever can run a query: the database, or a transaction in it. */
export type Queries = Kysely<Schema> | Transaction<Schema>

/** Spelled out rather than bound, because an index on a condition only serves queries that repeat it. */
export const inFlight = sql<boolean>`builds.state in ('pending', 'building')`
export const ended = sql<boolean>`builds.state not in ('pending', 'building')`
export const notReported = sql<boolean>`builds.reported = 0`

/** What every database takes as a text: Postgres has no null character. */
export function storable(text: string): string {
  return text.replaceAll('\0', '\ufffd').toWellFormed()
}

/** StoreDialect.time by a clock of this process. */
export function clockTime(now: () => Date = () => new Date()) {
  return (inSeconds = 0) => sql<string>`${new Date(now().getTime() + inSeconds * 1000).toISOString()}`
}
