import { type Kysely, sql, type Transaction } from 'kysely'
import { repositoryFilter } from '../../../core/allowed-repositories.ts'
import { oneLine } from '../../../core/one-line.ts'
import { repositoryKey } from '../../../core/repository-key.ts'
import type { IgnoredDeliveries } from '../../build-list.ts'
import type { StoreDialect } from '../dialect.ts'
import { type Schema, storable } from '../schema.ts'
import { Cursors } from './cursor.ts'

const MOST = 10_000
const KEPT_S = 30 * 24 * 60 * 60
/** In characters: payloads are written by others. */
const LONGEST = 500

/** BuildStore.ignored. */
export function kyselyIgnored(
  db: Kysely<Schema>,
  { write, time }: Pick<StoreDialect, 'write' | 'time'>,
): IgnoredDeliveries {
  async function prune(trx: Transaction<Schema>, number: number): Promise<void> {
    await trx
      .deleteFrom('ignored_deliveries')
      .where((eb) => eb.or([eb('number', '<=', number - MOST), eb('created_at', '<', time(-KEPT_S))]))
      // The oldest ones only: a few at a time are enough to keep up.
      .where('number', 'in', (eb) =>
        eb
          .selectFrom((oldest) =>
            oldest.selectFrom('ignored_deliveries').select('number').orderBy('number').limit(10).as('oldest'),
          )
          .select('number'),
      )
      .execute()
  }

  return {
    add: ({ id, event, repository, ref, reason, sha = null }) =>
      write(async (trx) => {
        const known = await trx
          .selectFrom('ignored_deliveries')
          .select('number')
          .where('id', '=', storable(id))
          .executeTakeFirst()
        if (known) return
        const counter = await trx
          .updateTable('counters')
          .set({ value: sql`value + 1` })
          .where('name', '=', 'ignored')
          .returning('value')
          .executeTakeFirstOrThrow()
        const number = Number(counter.value)
        await trx
          .insertInto('ignored_deliveries')
          .values({
            ...{ number, id: storable(id), event: short(event) },
            repository: repository === null ? null : short(repository),
            repository_key: repository === null ? null : repositoryKey(short(repository)),
            ref: ref === null ? null : short(ref),
            ...{ reason: short(reason), created_at: time(), sha },
          })
          // Another process has added it meanwhile.
          .onConflict((conflict) => conflict.column('id').doNothing())
          .execute()
        await prune(trx, number)
      }),

    async list({ repository, allowed, limit, cursor }) {
      const key = repository === undefined ? undefined : storable(repositoryKey(repository))
      const cursors = new Cursors('ignored', key)
      const below = cursor === undefined ? Number.MAX_SAFE_INTEGER : cursors.read(cursor).sequence
      if (allowed?.length === 0) return { deliveries: [], next: null }
      const may = allowed && repositoryFilter(allowed)
      const rows = await db
        .selectFrom('ignored_deliveries')
        .selectAll()
        .where('number', '<', below)
        .where('created_at', '>=', time(-KEPT_S))
        .$if(key !== undefined, (query) => query.where('repository_key', '=', key ?? ''))
        .orderBy('number', 'desc')
        // There are at most 10,000: which ones are allowed is decided here.
        .$if(may === undefined, (query) => query.limit(limit + 1))
        .execute()
      const visible = may
        ? rows.filter(({ repository_key }) => repository_key !== null && may(repository_key))
        : rows
      const shown = visible.slice(0, limit)
      const last = shown.at(-1)
      return {
        deliveries: shown.map(({ id, event, repository: name, ref, reason, created_at }) => ({
          ...{ id, event, repository: name, ref, reason, at: created_at },
        })),
        next: visible.length > limit && last ? cursors.write(Number(last.number)) : null,
      }
    },
  }
}

function short(text: string): string {
  return storable(oneLine(text.slice(0, 10 * LONGEST)).slice(0, LONGEST))
}
