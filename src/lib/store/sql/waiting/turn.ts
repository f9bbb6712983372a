import { type RawBuilder, sql } from 'kysely'
import type { BuildRequest, Turn } from '../../../core/build.ts'
import { repositoryKey } from '../../../core/repository-key.ts'

/** SQL: the order in which waiting builds start. */
export const inTurn = sql`builds.lane, builds.round, builds.sequence`

export function laneOf({ source }: Pick<BuildRequest, 'source'>): Turn['lane'] {
  return source.kind === 'api' || source.kind === 'cli' ? 0 : 1
}

/**
 * SQL: the round of the next build of a repository in a lane. That is the round which is being served, or the one after
 * the repository's last build that waits: start-time fair queuing, with builds of equal cost. Builds that are tried again
 * keep their round, which has passed.
 */
export function nextRound(repository: string, lane: Turn['lane']): RawBuilder<number> {
  return sql<number>`(
    select max(rounds.round) from (
      select coalesce(
        (select served.round from builds as served
          where served.lane = ${lane} and served.state = 'pending' and served.attempt = 0
          order by served.round limit 1),
        (select max(other.round) from builds as other
          where other.lane = ${lane} and other.state in ('pending', 'building')),
        0) as round
      union all
      select coalesce((select max(own.round) + 1 from builds as own
        where own.lane = ${lane} and own.state = 'pending' and own.repository_key = ${repositoryKey(repository)}), 0)
    ) as rounds)`
}
