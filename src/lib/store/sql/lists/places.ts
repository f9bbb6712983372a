import { sql, type Transaction } from 'kysely'
import type { CommitInfo, Ref } from '../../../core/build.ts'
import { type Schema, storable } from '../schema.ts'

/** Characters of `build_texts.text` from which on no more refs are added: one commit can have thousands of branches. */
const TEXT_LIMIT = 4000
/** Refs of earlier versions that are placed at a time. */
const UNPLACED_AT_ONCE = 1000

/** A build's position in lists. */
export interface Place {
  repositoryKey: string
  sequence: number
}

/** Adds a new build to what lists are read from. */
export async function placeBuild(
  trx: Transaction<Schema>,
  { repositoryKey, sequence }: Place,
  { sha, commit }: { sha: string; commit?: CommitInfo | undefined },
): Promise<void> {
  const text = `${titleLine(commit)}\n${repositoryKey}`
  await trx
    .insertInto('build_texts')
    .values({ sequence, sha: sha.slice(0, 6), text })
    .execute()
  await trx
    .insertInto('built_repositories')
    .values({ repository_key: repositoryKey, last_sequence: sequence })
    .onConflict((conflict) =>
      conflict.column('repository_key').doUpdateSet({ last_sequence: later('built_repositories', sequence) }),
    )
    .execute()
}

/** Adds a ref that has joined a build. */
export async function placeRef(
  trx: Transaction<Schema>,
  { repositoryKey, sequence }: Place,
  { kind, name }: Ref,
): Promise<void> {
  await trx
    .insertInto('built_refs')
    .values({ repository_key: repositoryKey, kind, name, last_sequence: sequence })
    .onConflict((conflict) =>
      conflict.columns(['repository_key', 'kind', 'name']).doUpdateSet({
        last_sequence: later('built_refs', sequence),
      }),
    )
    .execute()
  const line = `\n${name.toLowerCase()}`
  await trx
    .updateTable('build_texts')
    .set({ text: sql`text || cast(${line} as text)` })
    .where('sequence', '=', sequence)
    .where(sql<boolean>`length(text) < ${TEXT_LIMIT}`)
    .execute()
}

/** Adds the title of a commit that was not known when its build was placed. */
export async function placeTitle(
  trx: Transaction<Schema>,
  sequence: number,
  commit: CommitInfo,
): Promise<void> {
  await trx
    .updateTable('build_texts')
    .set({ text: sql`cast(${titleLine(commit)} as text) || text` })
    .where('sequence', '=', sequence)
    .where(sql<boolean>`text like ${'\n%'}`)
    .execute()
}

/** Places the refs that servers of an earlier version wrote after the migration. */
export async function placeRefs(trx: Transaction<Schema>): Promise<void> {
  const rows = await trx
    .selectFrom('build_refs')
    .innerJoin('builds', 'builds.id', 'build_refs.build_id')
    .select(['builds.id', 'builds.repository_key', 'builds.sequence', 'builds.sha'])
    .select(['build_refs.kind', 'build_refs.name'])
    .where(sql<boolean>`build_refs.build_sequence is null`)
    .limit(UNPLACED_AT_ONCE)
    .execute()
  for (const { id, kind, name, repository_key, sha, ...row } of rows) {
    const sequence = Number(row.sequence)
    const place = { repositoryKey: repository_key, sequence }
    const text = await trx
      .selectFrom('build_texts')
      .select('sequence')
      .where('sequence', '=', sequence)
      .executeTakeFirst()
    if (!text) await placeBuild(trx, place, { sha })
    await placeRef(trx, place, { kind, name })
    await trx
      .updateTable('build_refs')
      .set({ repository_key, build_sequence: sequence })
      .where('build_id', '=', id)
      .where('kind', '=', kind)
      .where('name', '=', name)
      .execute()
  }
}

/** SQL: the later one of a table's `last_sequence` and this. */
function later(table: 'built_refs' | 'built_repositories', sequence: number) {
  const known = sql.ref(`${table}.last_sequence`)
  return sql<number>`case when ${known} < ${sequence} then ${sequence} else ${known} end`
}

function titleLine(commit: CommitInfo | undefined): string {
  return commit ? storable(commit.title).toLowerCase() : ''
}
