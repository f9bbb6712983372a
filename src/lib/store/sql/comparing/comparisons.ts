import { type Kysely, sql } from 'kysely'
import type { Ref } from '../../../core/build.ts'
import { repositoryKey } from '../../../core/repository-key.ts'
import type { Comparisons, HeadComparison, WaitingHead } from '../../comparisons.ts'
import type { StoreDialect } from '../dialect.ts'
import { isSigned, type Queries, type Schema, storable } from '../schema.ts'
import { unknownHeads } from './unknown.ts'

const ACTIVE_S = 30 * 24 * 60 * 60
/** How many refs of one repository that were pushed between two comparisons are considered. */
const MOST_PUSHED = 10_000

/** BuildStore.comparisons. */
export function kyselyComparisons(
  db: Kysely<Schema>,
  { write, time }: Pick<StoreDialect, 'write' | 'time'>,
): Comparisons {
  return {
    async restart() {
      await write(async (trx) => {
        // A server of an earlier version may have accepted the first webhook.
        await sql`
          insert into comparisons (repository_key)
          select repository_key from repositories where true
          on conflict (repository_key) do nothing`.execute(trx)
        await trx.updateTable('comparisons').set({ next_at: time() }).execute()
        await trx
          .updateTable('comparisons')
          .set({ next_at: time(-1) })
          .where('repository_key', 'in', (eb) =>
            eb
              .selectFrom('built_repositories')
              .innerJoin('builds', 'builds.sequence', 'built_repositories.last_sequence')
              .select('built_repositories.repository_key')
              .where('builds.created_at', '>=', time(-ACTIVE_S)),
          )
          .execute()
      })
    },

    async due(limit) {
      const rows = await db
        .selectFrom('comparisons')
        .innerJoin('built_repositories as built', 'built.repository_key', 'comparisons.repository_key')
        .innerJoin('builds', 'builds.sequence', 'built.last_sequence')
        .select(['builds.repository', 'heads', 'comparisons.sequence', 'waiting'])
        .select(sql<number>`case when builds.created_at >= ${time(-ACTIVE_S)} then 1 else 0 end`.as('active'))
        .where('next_at', '<=', time())
        .orderBy('next_at')
        .limit(limit)
        .execute()
      return rows.map(
        ({ repository, heads, sequence, waiting, active }): HeadComparison => ({
          ...{ repository, heads, sequence: Number(sequence) },
          ...{ waiting: JSON.parse(waiting) as WaitingHead[], isActive: Number(active) === 1 },
        }),
      )
    },

    pushedSince: (repository, sequence) => pushedSince(db, repository, sequence),

    unknown: (repository, candidates, sequence) => unknownHeads(db, repository, candidates, sequence),

    async compared(repository, { heads, sequence, waiting }, nextInS) {
      await write((trx) =>
        trx
          .updateTable('comparisons')
          .set({ heads, sequence, waiting: storable(JSON.stringify(waiting)), error: null })
          .set({ compared_at: time(), next_at: time(nextInS) })
          .where('repository_key', '=', repositoryKey(repository))
          // Another server may have compared it since.
          .where('sequence', '<=', sequence)
          .execute(),
      )
    },

    async failed(repository, error, nextInS) {
      await write((trx) =>
        trx
          .updateTable('comparisons')
          .set({ error: storable(error), compared_at: time(), next_at: time(nextInS) })
          .where('repository_key', '=', repositoryKey(repository))
          .execute(),
      )
    },

    async last(repositories) {
      if (repositories.length === 0) return new Map()
      const rows = await db
        .selectFrom('comparisons')
        .select(['repository_key', 'compared_at', 'error'])
        .where('repository_key', 'in', repositories.map(repositoryKey))
        .execute()
      return new Map(
        rows.flatMap(({ repository_key, compared_at: at, error }) =>
          at === null ? [] : [[repository_key, { at, error }] as const],
        ),
      )
    },
  }
}

async function pushedSince(db: Queries, repository: string, sequence: number): Promise<Ref[]> {
  const rows = await db
    .selectFrom('pushes')
    .select(['kind', 'name'])
    .distinct()
    .where('repository_key', '=', repositoryKey(repository))
    .where('sequence', '>', sequence)
    .where(isSigned)
    .limit(MOST_PUSHED)
    .execute()
  return rows.flatMap(({ kind, name }) => (kind === null || name === null ? [] : [{ kind, name }]))
}
