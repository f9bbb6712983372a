import { type Kysely, sql, type Transaction } from 'kysely'
import { isFromFork, type PullRequest } from '../../../core/pull-request.ts'
import { repositoryKey } from '../../../core/repository-key.ts'
import type { PullRequests } from '../../pulls.ts'
import type { StoreDialect } from '../dialect.ts'
import { inFlight, type Schema, storable } from '../schema.ts'

/** Spelled out, for the partial indexes. */
const isOpen = sql<boolean>`pulls.open = 1`
const isClosed = sql<boolean>`pulls.open = 0`
const uncleaned = sql<boolean>`pulls.open = 0 and pulls.cleaned = 0`
/** Nothing is being built for it. */
const idle = sql<boolean>`not exists (
  select 1 from build_refs join builds on builds.id = build_refs.build_id
  where builds.repository_key = pulls.repository_key and build_refs.kind = 'pull'
    and build_refs.name = cast(pulls.number as text) and ${inFlight})`

/** BuildStore.pulls. */
export function kyselyPulls(db: Kysely<Schema>, { write }: Pick<StoreDialect, 'write'>): PullRequests {
  const ofRepository = (repository: string) =>
    db
      .selectFrom('pulls')
      .selectAll()
      .where('repository_key', '=', storable(repositoryKey(repository)))

  return {
    put: (pull) =>
      write(async (trx) => {
        const row = rowOf(pull)
        await trx
          .insertInto('pull_heads')
          .values({
            repository_key: repositoryKey(pull.repository),
            number: pull.number,
            head_sha: pull.head.sha,
          })
          .onConflict((conflict) => conflict.doNothing())
          .execute()
        const stored = await trx
          .insertInto('pulls')
          .values({ ...row, repository_key: repositoryKey(pull.repository), number: pull.number })
          .onConflict((conflict) =>
            conflict
              .columns(['repository_key', 'number'])
              .doUpdateSet(row)
              .where('pulls.updated_at', '<=', pull.updatedAt),
          )
          .returning('number')
          .executeTakeFirst()
        return stored !== undefined
      }),

    async get(repository, number) {
      const row = await ofRepository(repository).where('number', '=', number).executeTakeFirst()
      return row ? pullOf(row) : null
    },

    async open(repository, limit) {
      const rows = await ofRepository(repository)
        .where(isOpen)
        .orderBy('updated_at', 'desc')
        .orderBy('number', 'desc')
        .limit(limit)
        .execute()
      return rows.map(pullOf)
    },

    async withHead(repository, sha) {
      const rows = await ofRepository(repository)
        .where('head_sha', '=', sha)
        .where(isOpen)
        .orderBy('number')
        .execute()
      return rows.map(pullOf)
    },

    async ofForksWith(repository, sha) {
      const rows = await db
        .selectFrom('pull_heads')
        .innerJoin('pulls', (join) =>
          join
            .onRef('pulls.repository_key', '=', 'pull_heads.repository_key')
            .onRef('pulls.number', '=', 'pull_heads.number'),
        )
        .selectAll('pulls')
        .where('pull_heads.repository_key', '=', storable(repositoryKey(repository)))
        .where('pull_heads.head_sha', '=', sha)
        .where('pulls.fork', '=', 1)
        .orderBy('pulls.number')
        .execute()
      return rows.map(pullOf)
    },

    async headsLike(repository, number, digits, limit) {
      const rows = await db
        .selectFrom('pull_heads')
        .select('head_sha')
        .where('repository_key', '=', storable(repositoryKey(repository)))
        .where('number', '=', number)
        .where(sql<boolean>`substr(head_sha, 1, ${digits.length}) = ${digits}`)
        .orderBy('head_sha')
        .limit(limit)
        .execute()
      return rows.map(({ head_sha }) => head_sha)
    },

    async uncleaned(limit) {
      const rows = await db
        .selectFrom('pulls')
        .selectAll()
        .where(uncleaned)
        .where(idle)
        .orderBy('updated_at')
        .orderBy('number')
        .limit(limit)
        .execute()
      return rows.map(pullOf)
    },

    async markCleaned({ repository, number, updatedAt }) {
      await write(async (trx) => {
        const closed = trx
          .updateTable('pulls')
          .where('repository_key', '=', repositoryKey(repository))
          .where('number', '=', number)
          .where(isClosed)
          .where('updated_at', '=', updatedAt)
        // Locks the row, so that the next statement sees a build that is just being accepted, which would publish the tag.
        await closed.set({ cleaned: 0 }).execute()
        await closed.set({ cleaned: 1 }).where(idle).execute()
      })
    },
  }
}

/** A build publishes the tag of a pull request: if that is closed, the tag has to be removed again. */
export async function touchPull(trx: Transaction<Schema>, repository: string, number: string): Promise<void> {
  await trx
    .updateTable('pulls')
    .set({ cleaned: 0 })
    .where('repository_key', '=', repositoryKey(repository))
    .where('number', '=', Number(number))
    .execute()
}

type Info = Omit<PullRequest, 'number' | 'open' | 'updatedAt'>

function rowOf(pull: PullRequest) {
  const { number: _number, open, updatedAt, ...info } = pull
  const stored: Info = { ...info, title: storable(info.title), author: storable(info.author) }
  return {
    info: JSON.stringify(stored),
    head_sha: pull.head.sha,
    fork: isFromFork(pull) ? 1 : 0,
    open: open ? 1 : 0,
    cleaned: 0,
    updated_at: updatedAt,
  }
}

function pullOf(row: Schema['pulls']): PullRequest {
  const info = JSON.parse(row.info) as Info
  return { ...info, number: Number(row.number), open: row.open === 1, updatedAt: row.updated_at }
}
