import { createHash } from 'node:crypto'
import type { SelectQueryBuilder } from 'kysely'
import type { Artifact, BaseImage, Build, CommitInfo, Recipe, Withheld } from '../../core/build.ts'
import type { ForkOrigin } from '../../core/pull-request.ts'
import { repositoryKey } from '../../core/repository-key.ts'
import type { ListedBuild } from '../build-list.ts'
import { type Queries, type Schema, storable } from './schema.ts'

/**
 * Converts rows to nouns. A build is read together with its refs in one statement, so that `pushOrder` and `refs` are
 * consistent.
 */

type Narrow<Tables extends keyof Schema> = (
  query: SelectQueryBuilder<Schema, Tables, unknown>,
) => SelectQueryBuilder<Schema, Tables, unknown>

/** Ids are UUIDs. Anything else is not looked up, as some databases reject odd characters in a query. */
export function isId(id: string): boolean {
  return /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/.test(id)
}

export async function readBuild(db: Queries, id: string): Promise<Build | null> {
  if (!isId(id)) return null
  const [build] = await readBuilds(db, (query) => query.where('builds.id', '=', id))
  return build ?? null
}

/** A build, and whether the queue has it. */
export async function readQueued(db: Queries, id: string): Promise<{ build: Build; queued: boolean } | null> {
  const rows = await buildRows(db, (query) => query.where('builds.id', '=', id)).execute()
  const [build] = buildsOf(rows)
  return build ? { build, queued: rows[0]?.queued === 1 } : null
}

/** Builds whose id begins with this, at most `limit`. */
export async function readBuildsStartingWith(db: Queries, prefix: string, limit: number): Promise<Build[]> {
  const [first, last] = ['0', 'f'].map((digit) => completeId(prefix, digit))
  if (!first?.startsWith(prefix) || !last) return []
  // Whole ids: how databases compare shorter ones depends on their locale, which may ignore hyphens.
  const found = await db
    .selectFrom('builds')
    .select('id')
    .where('id', '>=', first)
    .where('id', '<=', last)
    .orderBy('id')
    .limit(limit)
    .execute()
  const ids = found.map(({ id }) => id)
  return ids.length === 0 ? [] : readBuilds(db, (query) => query.where('builds.id', 'in', ids))
}

/** Commits of a repository that have builds, and whose id begins with `prefix`. */
export async function readCommitsStartingWith(
  db: Queries,
  { repository, prefix, limit }: { repository: string; prefix: string; limit: number },
): Promise<string[]> {
  if (!/^[0-9a-f]{1,64}$/.test(prefix)) return []
  const rows = await db
    .selectFrom('builds')
    .select('sha')
    .distinct()
    .where('repository_key', '=', repositoryKey(repository))
    .where('sha', '>=', prefix)
    // The character that follows f.
    .where('sha', '<', `${prefix}g`)
    .limit(limit)
    .execute()
  return rows.map(({ sha }) => sha)
}

/** An id that begins with the hexadecimal digits of `prefix`, and has the same digit in all other places. */
function completeId(prefix: string, digit: string): string {
  if (!/^[0-9a-f-]{1,36}$/.test(prefix)) return ''
  const digits = prefix.replaceAll('-', '').padEnd(32, digit)
  return digits.replace(/^(.{8})(.{4})(.{4})(.{4})(.{12})$/, '$1-$2-$3-$4-$5')
}

/** The builds that match `narrow`, oldest first. */
export async function readBuilds(db: Queries, narrow: Narrow<'builds'>): Promise<Build[]> {
  return buildsOf(await buildRows(db, narrow).execute())
}

/** The builds with these sequence numbers and their images, newest first. */
export async function readListed(db: Queries, sequences: number[]): Promise<ListedBuild[]> {
  const last = sequences.at(-1)
  if (last === undefined) return []
  // Few distinct lengths, as each is a statement to prepare.
  const padded = sequences.concat(
    Array(2 ** Math.ceil(Math.log2(sequences.length)) - sequences.length).fill(last),
  )
  const rows = await buildRows(db, (query) => query.where('builds.sequence', 'in', padded))
    .leftJoin('artifacts', 'artifacts.build_id', 'builds.id')
    .select('artifacts.image')
    .execute()
  const images = new Map(rows.map(({ id, image }) => [id, image]))
  const listed = buildsOf(rows).map((build) => ({ build, image: images.get(build.id) ?? null }))
  return listed.reverse()
}

/** A row for each ref of a build, or one for a build without refs; oldest build first. */
function buildRows(db: Queries, narrow: Narrow<'builds'>) {
  return narrow(db.selectFrom('builds'))
    .leftJoin('build_refs', 'build_refs.build_id', 'builds.id')
    .leftJoin('pushes', 'pushes.sequence', 'build_refs.sequence')
    .selectAll('builds')
    .select(['build_refs.kind', 'build_refs.name', 'build_refs.sequence as ref_sequence', 'pushes.unproven'])
    .orderBy('builds.sequence')
    .orderBy('build_refs.position')
}

type BuildRow = Awaited<ReturnType<ReturnType<typeof buildRows>['execute']>>[number]

function buildsOf(rows: BuildRow[]): Build[] {
  const builds = new Map<string, Build>()
  for (const row of rows) {
    const build: Build = builds.get(row.id) ?? {
      id: row.id,
      sequence: Number(row.sequence),
      repository: row.repository,
      sha: row.sha,
      refs: [],
      defaultBranch: row.default_branch,
      cache: row.cache === 1,
      tree: row.tree,
      source: row.source,
      ...(row.reason !== null && { reason: row.reason }),
      commit: commitFrom(row),
      pushOrder: Number(row.push_order),
      ...(row.trace !== null && { trace: row.trace }),
      ...withheldFrom(row),
      ...forkFrom(row),
      turn: { lane: row.lane, round: Number(row.round) },
      state: row.state,
      attempt: row.attempt,
      ...(row.spared > 0 && { spared: row.spared }),
      ...(row.suspect !== null && { suspect: true as const }),
      error: row.error,
      errorKind: row.error_kind,
      ...(row.cancel_by !== null && { cancel: { by: row.cancel_by, at: row.cancel_at ?? '' } }),
      ...(row.superseded_by !== null && {
        supersededBy: { id: row.superseded_by, sha: row.superseded_sha ?? '' },
      }),
      ...(row.neutral === 1 && { neutral: true as const }),
      createdAt: row.created_at,
      startedAt: row.started_at,
      completedAt: row.completed_at,
    }
    builds.set(row.id, build)
    if (row.kind !== null && row.name !== null) {
      const { kind, name } = row
      const unproven = row.unproven === 1 && { unproven: true as const }
      build.refs.push({ kind, name, sequence: Number(row.ref_sequence), ...unproven })
    }
  }
  return [...builds.values()]
}

function commitFrom(row: Pick<Schema['builds'], 'commit_title' | 'commit_author' | 'commit_login'>) {
  if (row.commit_title === null) return null
  return { title: row.commit_title, author: row.commit_author ?? '', login: row.commit_login }
}

/** The columns for what a commit says about itself. */
export function commitColumns(commit: CommitInfo | null | undefined) {
  return {
    commit_title: commit ? storable(commit.title) : null,
    commit_author: commit ? storable(commit.author) : null,
    commit_login: commit?.login == null ? null : storable(commit.login),
  }
}

function forkFrom(row: Pick<Schema['builds'], 'fork' | 'fork_repository' | 'approved_by'>): {
  fork?: ForkOrigin
} {
  const pull = Number(row.fork)
  return pull === 0
    ? {}
    : { fork: { pull, repository: row.fork_repository, approvedBy: row.approved_by ?? '' } }
}

/** The columns for where the commit of a fork comes from. */
export function forkColumns(fork: ForkOrigin | undefined) {
  return {
    fork: fork?.pull ?? 0,
    fork_repository: fork?.repository ?? null,
    approved_by: fork ? storable(fork.approvedBy) : null,
  }
}

/** The tags that are still withheld: a later push releases `latest`. */
function withheldFrom({ withheld, push_order }: { withheld: string | null; push_order: number }) {
  if (withheld === null) return {}
  const all = JSON.parse(withheld) as Withheld[]
  const still = Number(push_order) === 0 ? all : all.filter(({ tag }) => tag !== 'latest')
  return still.length === 0 ? {} : { withheld: still }
}

/** A recipe for comparisons. */
export function recipeKey({ context, dockerfile, settings }: Recipe): string {
  return createHash('sha256')
    .update(JSON.stringify([context, dockerfile, settings]))
    .digest('hex')
}

/** The newest artifact that matches `narrow`, or null. */
export async function readArtifact(
  db: Queries,
  narrow: Narrow<'artifacts' | 'builds'>,
): Promise<Artifact | null> {
  const [artifact] = await readArtifacts(db, narrow, 1)
  return artifact ?? null
}

/** The artifacts that match `narrow`, newest first, at most `limit`. */
export async function readArtifacts(
  db: Queries,
  narrow: Narrow<'artifacts' | 'builds'>,
  limit: number,
): Promise<Artifact[]> {
  const rows = await narrow(db.selectFrom('artifacts').innerJoin('builds', 'builds.id', 'artifacts.build_id'))
    .selectAll('artifacts')
    .select(['builds.repository', 'builds.sha'])
    .orderBy('builds.sequence', 'desc')
    .limit(limit)
    .execute()
  return rows.map((row) => ({
    id: row.id,
    buildId: row.build_id,
    repository: row.repository,
    sha: row.sha,
    image: row.image,
    tags: JSON.parse(row.tags) as string[],
    recipe: row.recipe === null ? null : (JSON.parse(row.recipe) as Recipe),
    tree: row.tree,
    bases: row.bases === null ? null : (JSON.parse(row.bases) as BaseImage[]),
    createdAt: row.created_at,
  }))
}
