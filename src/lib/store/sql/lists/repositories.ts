import { sql } from 'kysely'
import { repositoryFilter } from '../../../core/allowed-repositories.ts'
import type { Ref } from '../../../core/build.ts'
import { repositoryKey } from '../../../core/repository-key.ts'
import type { BuiltRef, RepositoryListing, RepositoryPage } from '../../build-list.ts'
import { readListed } from '../rows.ts'
import { type Queries, storable } from '../schema.ts'
import { Cursors } from './cursor.ts'

/** How many builds of a ref are searched for one that published an image. */
const IMAGE_WITHIN = 1000

/** BuildStore.repositories. */
export async function listRepositories(
  db: Queries,
  { allowed, limit, cursor }: RepositoryListing,
): Promise<RepositoryPage> {
  const cursors = new Cursors('repositories')
  const below = cursor === undefined ? Number.MAX_SAFE_INTEGER : cursors.read(cursor).sequence
  const rows = await db
    .selectFrom('built_repositories')
    .select(['repository_key', 'last_sequence'])
    .where('last_sequence', '<', below)
    .orderBy('last_sequence', 'desc')
    // Which ones are allowed is decided here.
    .$if(allowed === undefined, (query) => query.limit(limit + 1))
    .execute()
  const may = allowed === undefined || allowed.length === 0 ? undefined : repositoryFilter(allowed)
  const visible = allowed?.length === 0 ? [] : rows.filter((row) => may?.(row.repository_key) ?? true)
  const shown = visible.slice(0, limit).map((row) => Number(row.last_sequence))
  const listed = await readListed(db, shown)
  const last = shown.at(-1)
  return {
    repositories: listed.map((build) => ({ name: build.build.repository, last: build })),
    next: visible.length > limit && last !== undefined ? cursors.write(last) : null,
  }
}

/** SQL: whether a row of build_refs is of the ref of built_refs. */
function itsBuilds(table: 'build_refs' | 'earlier') {
  const same = (column: string) => sql`${sql.ref(`${table}.${column}`)} = ${sql.ref(`built_refs.${column}`)}`
  return sql.join(['repository_key', 'kind', 'name'].map(same), sql` and `)
}

/** BuildStore.branches. */
export async function listRefs(db: Queries, repository: string, limit: number): Promise<BuiltRef[]> {
  const key = storable(repositoryKey(repository))
  const { rows } = await sql<Ref & { last: number; image: string | null }>`
    select kind, name, last_sequence as last, (
      select image
      from build_refs join artifacts on artifacts.build_id = build_refs.build_id
      where ${itsBuilds('build_refs')} and build_sequence >= coalesce((
        select build_sequence from build_refs as earlier
        where ${itsBuilds('earlier')}
        order by build_sequence desc limit 1 offset ${IMAGE_WITHIN - 1}
      ), 0)
      order by build_sequence desc limit 1
    ) as image
    from built_refs
    where repository_key = ${key} and not (kind = 'branch' and name like 'gh-readonly-queue/%')
    order by last_sequence desc, kind, name
    limit ${limit}`.execute(db)
  const listed = await readListed(db, [...new Set(rows.map(({ last }) => Number(last)))])
  const bySequence = new Map(listed.map((one) => [one.build.sequence, one]))
  return rows.flatMap(({ kind, name, last, image }) => {
    const build = bySequence.get(Number(last))
    return build ? [{ ref: { kind, name }, last: build, image }] : []
  })
}
