import type { Kysely } from 'kysely'
import { repositoryFilter } from '../../core/allowed-repositories.ts'
import type { RepositoryListing } from '../build-list.ts'
import type { WaitingPage, WorkerInfo, Workers } from '../fleet.ts'
import type { StoreDialect } from './dialect.ts'
import { Cursors } from './lists/cursor.ts'
import { readBuilds } from './rows.ts'
import { inFlight, type Schema, storable } from './schema.ts'

const FORGOTTEN_AFTER_S = 60

/** Who runs builds. */
export function kyselyWorkers(
  db: Kysely<Schema>,
  { write, time }: Pick<StoreDialect, 'write' | 'time'>,
): Workers {
  return {
    async seen({ id, startedAt, ...worker }) {
      const info = storable(JSON.stringify(worker))
      await write(async (trx) => {
        await trx.deleteFrom('workers').where('seen_at', '<', time(-FORGOTTEN_AFTER_S)).execute()
        await trx
          .insertInto('workers')
          .values({ id, info, started_at: startedAt, seen_at: time() })
          .onConflict((conflict) => conflict.column('id').doUpdateSet({ info, seen_at: time() }))
          .execute()
      })
    },

    async gone(id) {
      await write((trx) => trx.deleteFrom('workers').where('id', '=', id).execute())
    },

    async list() {
      const rows = await db
        .selectFrom('workers')
        .selectAll()
        .where('seen_at', '>=', time(-FORGOTTEN_AFTER_S))
        .execute()
      const workers = rows.map(
        ({ id, info, started_at, seen_at }): WorkerInfo => ({
          id,
          ...(JSON.parse(info) as Omit<WorkerInfo, 'id' | 'startedAt' | 'seenAt'>),
          startedAt: started_at,
          seenAt: seen_at,
        }),
      )
      return workers.sort((a, b) => (a.host === b.host ? a.pid - b.pid : a.host < b.host ? -1 : 1))
    },
  }
}

/** BuildStore.waiting. */
export async function waitingBuilds(
  db: Kysely<Schema>,
  { limit, cursor, allowed }: RepositoryListing,
): Promise<WaitingPage> {
  const cursors = new Cursors('waiting')
  const after = cursor === undefined ? 0 : cursors.read(cursor).sequence
  const pending = db.selectFrom('builds').where(inFlight).where('state', '=', 'pending')
  const counts = await db
    .selectFrom('builds')
    .select(({ fn }) => ['state', fn.countAll().as('count')])
    .where(inFlight)
    .groupBy('state')
    .execute()
  const count = (state: string) => Number(counts.find((row) => row.state === state)?.count ?? 0)
  const totals = { pending: count('pending'), building: count('building') }

  let listed = pending
    .select('sequence')
    .where('sequence', '>', after)
    .orderBy('sequence')
    .limit(limit + 1)
  if (allowed) {
    const may = repositoryFilter(allowed)
    const keys = await pending.select('repository_key').distinct().execute()
    const visible = keys.map(({ repository_key }) => repository_key).filter(may)
    if (allowed.length === 0 || visible.length === 0) return { ...totals, builds: [], next: null }
    listed = listed.where('repository_key', 'in', visible)
  }
  const found = (await listed.execute()).map(({ sequence }) => Number(sequence))
  const page = found.slice(0, limit)
  if (page.length === 0) return { ...totals, builds: [], next: null }

  const builds = await readBuilds(db, (query) => query.where('builds.sequence', 'in', page))
  const facts = await db
    .selectFrom('builds')
    .select(({ selectFrom }) => [
      'id',
      'retry_at',
      selectFrom('builds as older')
        .select(({ fn }) => fn.countAll().as('count'))
        .where('older.state', '=', 'pending')
        .whereRef('older.sequence', '<', 'builds.sequence')
        .as('ahead'),
    ])
    .where('sequence', 'in', page)
    .execute()
  const last = page.at(-1) ?? after
  return {
    ...totals,
    // One that starts in the meantime waits no longer.
    builds: builds
      .filter(({ state }) => state === 'pending')
      .map((build) => {
        const fact = facts.find(({ id }) => id === build.id)
        return { build, position: Number(fact?.ahead ?? 0) + 1, retryAt: fact?.retry_at ?? null }
      }),
    next: found.length > limit ? cursors.write(last) : null,
  }
}
