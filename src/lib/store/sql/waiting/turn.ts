import { sql } from 'kysely'
import type { BuildRequest, Turn } from '../../../core/build.ts'
import { keyOf } from '../rows.ts'
import { inFlight, type Queries, waiting } from '../schema.ts'

/** SQL: the order in which waiting builds start. */
export const inTurn = sql`builds.lane, builds.round, builds.sequence`

export function laneOf({ source }: Pick<BuildRequest, 'source'>): Turn['lane'] {
  return source.kind === 'api' || source.kind === 'cli' ? 0 : 1
}

/**
 * The round of the next build of a repository in a lane: the one that is being served, or the one after the repository's
 * last build that waits. This is start-time fair queuing, with builds of equal cost. Builds that are tried again keep their
 * round, which has passed.
 */
export async function nextRound(db: Queries, repository: string, lane: Turn['lane']): Promise<number> {
  const inLane = db.selectFrom('builds').where('lane', '=', lane)
  const served = inLane.select('round').where(waiting).where('attempt', '=', 0).orderBy('round').limit(1)
  const last = inLane.select(({ fn }) => fn.max('round').as('round')).where(inFlight)
  const own = inLane
    .select(({ fn }) => fn.max('round').as('round'))
    .where(waiting)
    .where('repository_key', '=', keyOf(repository))
  const found = await db
    .selectNoFrom([
      sql<number>`coalesce((${served}), (${last}), 0)`.as('served'),
      sql<number>`coalesce((${own}) + 1, 0)`.as('own'),
    ])
    .executeTakeFirstOrThrow()
  return Math.max(Number(found.served), Number(found.own))
}
