import { type Kysely, sql } from 'kysely'
import { repositoryFilter } from '../../../core/allowed-repositories.ts'
import type { Build } from '../../../core/build.ts'
import type { RepositoryListing } from '../../build-list.ts'
import type { WaitingPage } from '../../fleet.ts'
import { Cursors } from '../lists/cursor.ts'
import { readBuilds } from '../rows.ts'
import { inFlight, type Schema, waiting } from '../schema.ts'
import { inTurn } from './turn.ts'

/** BuildStore.waiting. */
export async function waitingBuilds(
  db: Kysely<Schema>,
  { limit, cursor, allowed }: RepositoryListing,
): Promise<WaitingPage> {
  const cursors = new Cursors('waiting')
  const after = cursor === undefined ? null : await turnOf(db, cursors.read(cursor).sequence)
  const pending = db.selectFrom('builds').where(waiting)
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
    .$if(after !== null, (query) => query.where(sql<boolean>`(${inTurn}) > (${sql.join(after ?? [])})`))
    .orderBy(inTurn)
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
        .where(sql<boolean>`older.state = 'pending'`)
        .where(sql<boolean>`(older.lane, older.round, older.sequence) < (${inTurn})`)
        .as('ahead'),
    ])
    .where('sequence', 'in', page)
    .execute()
  const position = new Map(page.map((sequence, index) => [sequence, index]))
  const inOrder = (one: Build, other: Build) =>
    (position.get(one.sequence) ?? 0) - (position.get(other.sequence) ?? 0)
  const last = page.at(-1)
  return {
    ...totals,
    // One that starts in the meantime waits no longer.
    builds: builds
      .filter(({ state }) => state === 'pending')
      .sort(inOrder)
      .map((build) => {
        const fact = facts.find(({ id }) => id === build.id)
        return { build, position: Number(fact?.ahead ?? 0) + 1, retryAt: fact?.retry_at ?? null }
      }),
    next: found.length > limit && last !== undefined ? cursors.write(last) : null,
  }
}

/** The turn of the build with this number, which may have ended; null if there is none. */
async function turnOf(db: Kysely<Schema>, sequence: number): Promise<number[] | null> {
  const row = await db
    .selectFrom('builds')
    .select(['lane', 'round'])
    .where('sequence', '=', sequence)
    .executeTakeFirst()
  return row ? [row.lane, Number(row.round), sequence] : null
}
