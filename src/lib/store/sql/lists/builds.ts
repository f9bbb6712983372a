import { repositoryFilter } from '../../../core/allowed-repositories.ts'
import { ConveyorError } from '../../../core/errors.ts'
import { repositoryKey } from '../../../core/repository-key.ts'
import type { BuildFilter, BuildPage, ListedBuild, ListPage } from '../../build-list.ts'
import { readListed } from '../rows.ts'
import { type Queries, storable } from '../schema.ts'
import { Cursors } from './cursor.ts'
import { findBuilds, hasSha } from './windows.ts'

/** How far the clock may have been set back, in builds, for `since` to be exact. */
const CLOCK_STEP = 100
/** So many digits are taken for a sha if there is one; git itself abbreviates to 7. */
const SHA_START = /^[0-9a-f]{7,64}$/

/** BuildStore.list. */
export async function listBuilds(
  db: Queries,
  filter: BuildFilter,
  { limit, cursor }: ListPage,
): Promise<BuildPage> {
  const { state, branch } = filter
  const repository = filter.repository === undefined ? undefined : storable(repositoryKey(filter.repository))
  const since = filter.since === undefined ? undefined : timeOf(filter.since)
  const text = filter.text ? storable(filter.text).toLowerCase() : undefined
  const before = filter.before ?? Number.MAX_SAFE_INTEGER
  const cursors = new Cursors('builds', repository, branch, state, since, text)
  const at = cursor === undefined ? null : cursors.read(cursor)

  const repositories = await visible(db, repository, filter.allowed)
  const floor = since === undefined ? 0 : await firstSince(db, since)
  if (repositories?.length === 0 || floor === null) return { builds: [], next: null }
  const range = { below: Math.min(before, at?.sequence ?? before), floor }
  const bySha = at
    ? at.bySha
    : text !== undefined &&
      SHA_START.test(text) &&
      (await hasSha(db, { repositories, sha: text }, { ...range, floor: 0 }))
  const wanted = {
    ...{ repositories, state, branch: branch === undefined ? undefined : storable(branch) },
    ...(bySha ? { sha: text } : { text }),
  }
  const { sequences, below } = await findBuilds(db, wanted, range, limit)
  const may = filter.allowed && repositoryFilter(filter.allowed)
  // Builds go on while they are read, and the clock may have been set back.
  const fits = ({ build }: ListedBuild) =>
    (state === undefined || build.state === state) &&
    (since === undefined || build.createdAt >= since) &&
    (may === undefined || may(build.repository))
  const builds = (await readListed(db, sequences)).filter(fits)
  return { builds, next: below === null ? null : cursors.write(below, bySha) }
}

/** The keys of the repositories that may be listed; null for all. */
async function visible(
  db: Queries,
  repository: string | undefined,
  allowed: readonly string[] | undefined,
): Promise<string[] | null> {
  if (allowed?.length === 0) return []
  const may = allowed && repositoryFilter(allowed)
  if (repository !== undefined) return may && !may(repository) ? [] : [repository]
  if (!may) return null
  const rows = await db.selectFrom('built_repositories').select('repository_key').execute()
  const keys = rows.map(({ repository_key }) => repository_key).filter(may)
  return keys.length === rows.length ? null : keys
}

function timeOf(since: string): string {
  const time = new Date(since)
  if (!Number.isNaN(time.getTime())) return time.toISOString()
  throw new ConveyorError('invalid', 'since is not a time', {
    field: 'since',
    hint: 'Use ISO 8601, such as 2026-01-31T12:00:00Z',
  })
}

/** The sequence number of the first build since a time; null if there is none. */
async function firstSince(db: Queries, since: string): Promise<number | null> {
  const first = await db
    .selectFrom((all) =>
      all
        .selectFrom('builds')
        .select('sequence')
        .where('created_at', '>=', since)
        .orderBy('created_at')
        .orderBy('sequence')
        .limit(CLOCK_STEP)
        .as('earliest'),
    )
    .select((select) => select.fn.min('sequence').as('sequence'))
    .executeTakeFirst()
  return first?.sequence == null ? null : Number(first.sequence)
}
