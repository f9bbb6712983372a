import { sql, type Transaction } from 'kysely'
import type { CommitInfo } from '../../../core/build.ts'
import { commitColumns, isId } from '../rows.ts'
import type { Schema } from '../schema.ts'
import { placeTitle } from './places.ts'

/** Columns for what a commit says about itself, unless that is known. */
export function unlessKnown(commit: CommitInfo) {
  const columns = commitColumns(commit)
  const value = (column: keyof typeof columns) =>
    sql<string | null>`case when commit_title is null then ${columns[column]} else ${sql.ref(column)} end`
  return {
    commit_title: value('commit_title'),
    commit_author: value('commit_author'),
    commit_login: value('commit_login'),
  }
}

/** BuildStore.describe. */
export async function describeCommit(
  trx: Transaction<Schema>,
  id: string,
  commit: CommitInfo,
): Promise<void> {
  if (!isId(id)) return
  const described = await trx
    .updateTable('builds')
    .set(commitColumns(commit))
    .where('id', '=', id)
    .where('commit_title', 'is', null)
    .returning('sequence')
    .executeTakeFirst()
  if (described) await placeTitle(trx, Number(described.sequence), commit)
}
