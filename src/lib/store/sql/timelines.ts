import type { Kysely } from 'kysely'
import { boundedTimeline, summaryOf, type Timeline, type TimelineSummary } from '../../core/timeline.ts'
import type { Timelines } from '../build-store.ts'
import type { StoreDialect } from './dialect.ts'
import { isId } from './rows.ts'
import type { Schema } from './schema.ts'

export function kyselyTimelines(db: Kysely<Schema>, { write }: Pick<StoreDialect, 'write'>): Timelines {
  return {
    async put(buildId, timeline) {
      const { attempt } = timeline
      const text = JSON.stringify(boundedTimeline(timeline))
      const summary = JSON.stringify(summaryOf(timeline))
      await write((trx) =>
        trx
          .insertInto('timelines')
          .values({ build_id: buildId, attempt, timeline: text, summary })
          .onConflict((conflict) =>
            conflict
              .column('build_id')
              .doUpdateSet({ attempt, timeline: text, summary })
              .where('timelines.attempt', '<=', attempt),
          )
          .execute(),
      )
    },

    async get(buildId) {
      if (!isId(buildId)) return null
      const row = await db
        .selectFrom('timelines')
        .select('timeline')
        .where('build_id', '=', buildId)
        .executeTakeFirst()
      return row ? (JSON.parse(row.timeline) as Timeline) : null
    },

    async summaries(buildIds) {
      const ids = buildIds.filter(isId)
      if (ids.length === 0) return new Map()
      const rows = await db
        .selectFrom('timelines')
        .select(['build_id', 'summary'])
        .where('build_id', 'in', ids)
        .where('summary', 'is not', null)
        .execute()
      return new Map(
        rows.map(({ build_id, summary }) => [build_id, JSON.parse(summary ?? '') as TimelineSummary]),
      )
    },
  }
}
