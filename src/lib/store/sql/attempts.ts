import { randomUUID } from 'node:crypto'
import { type Kysely, type RawBuilder, sql, type Transaction, type UpdateObject } from 'kysely'
import { type Build, cancelledBy, isEnded, supersededBy } from '../../core/build.ts'
import type { BuildResult, BuildStore, Finish } from '../build-store.ts'
import type { StoreDialect } from './dialect.ts'
import { recordEnd } from './outbound/notifications.ts'
import { isId, readBuild, recipeKey } from './rows.ts'
import { building, inFlight, notCancelled, type Schema, storable, waiting } from './schema.ts'

type Attempts = Pick<
  BuildStore,
  | 'claim'
  | 'claimFor'
  | 'begin'
  | 'hold'
  | 'release'
  | 'requestCancel'
  | 'cancelRequests'
  | 'beginPublish'
  | 'cancelPublish'
  | 'finish'
  | 'survived'
>

/** Which worker builds what, and how builds end. Each opened store counts as a process. */
export function kyselyAttempts(
  db: Kysely<Schema>,
  { write, time }: Pick<StoreDialect, 'write' | 'time'>,
): Attempts {
  const worker = randomUUID()
  return {
    async claim(id) {
      return isId(id) ? write((trx) => claim(trx, { id, worker, time: time(), heldUntil: null })) : null
    },

    async claimFor(id, seconds) {
      if (!isId(id)) return null
      return write(async (trx) => {
        const claimed = await claim(trx, { id, worker, time: time(), heldUntil: time(seconds) })
        if (claimed) return claimed
        const build = await readBuild(trx, id)
        return build && !isEnded(build.state) ? 'held' : null
      })
    },

    begin(id, attempt) {
      return write(async (trx) => (await change(trx, { id, attempt }, { worker })) !== undefined)
    },

    hold(id, attempt, seconds) {
      return write(
        async (trx) => (await change(trx, { id, attempt }, { held_until: time(seconds) })) !== undefined,
      )
    },

    release(id, attempt, { counts = true, retryIn } = {}) {
      return write(
        async (trx) =>
          (await change(
            trx,
            { id, attempt },
            {
              state: 'pending',
              retry_at: retryIn === undefined ? null : time(retryIn),
              ...(!counts && { attempt: attempt - 1 }),
            },
            { unlessCancelled: true },
          )) !== undefined,
      )
    },

    async requestCancel(id, by) {
      return isId(id) ? write((trx) => requestCancel(trx, id, storable(by), time())) : null
    },

    async cancelRequests(ids) {
      if (ids.length === 0) return []
      const rows = await db
        .selectFrom('builds')
        .select(['id', 'cancel_by'])
        .where('id', 'in', [...ids])
        .where(building)
        .where('cancel_by', 'is not', null)
        .execute()
      return rows.map(({ id, cancel_by }) => ({ id, by: cancel_by ?? '' }))
    },

    beginPublish: (id, attempt) => write((trx) => beginPublish(trx, id, attempt)),

    async cancelPublish(id, attempt) {
      await write((trx) => change(trx, { id, attempt }, { publishing: 0 }))
    },

    finish: (id, attempt, refsSeen, result) =>
      write((trx) => finish(trx, { id, attempt, refsSeen, result, time: time() })),

    async survived() {
      await write((trx) =>
        trx
          .updateTable('builds')
          .set({ suspect: null })
          .where(inFlight)
          .where('suspect', '=', worker)
          .execute(),
      )
    },
  }
}

/** Changes a build if `attempt` is the current one; undefined if not. */
function change(
  trx: Transaction<Schema>,
  { id, attempt }: { id: string; attempt: number },
  values: UpdateObject<Schema, 'builds'>,
  { unlessCancelled = false } = {},
): Promise<{ ref_repushed: number; cancel_by: string | null } | undefined> {
  return trx
    .updateTable('builds')
    .set(values)
    .where('id', '=', id)
    .where('attempt', '=', attempt)
    .where(building)
    .$if(unlessCancelled, (query) => query.where(notCancelled))
    .returning(['ref_repushed', 'cancel_by'])
    .executeTakeFirst()
}

/** SQL: whether no build of the same repository has ever succeeded. */
const neverSucceeded = sql<boolean>`not exists (select 1 from builds as earlier
  where earlier.repository_key = builds.repository_key and earlier.state = 'succeeded')`

/**
 * BuildStore.requestCancel. One UPDATE, so that a build which starts or is released at the same time is either pending or
 * building.
 * @param successor the build that supersedes it, if that is why
 */
export async function requestCancel(
  trx: Transaction<Schema>,
  id: string,
  by: string,
  time: RawBuilder<string>,
  successor?: { id: string; sha: string },
): Promise<Build | null> {
  const ifPending = <T>(value: T, column: RawBuilder<unknown>) =>
    sql<T>`case state when 'pending' then ${value} else ${column} end`
  const asked = await trx
    .updateTable('builds')
    .set({
      state: ifPending('cancelled' as const, sql`state`),
      error: ifPending(successor ? supersededBy(successor.sha) : cancelledBy(by), sql`error`),
      error_kind: ifPending('cancelled' as const, sql`error_kind`),
      completed_at: sql`case state when 'pending' then ${time} else completed_at end`,
      cancel_by: sql`coalesce(cancel_by, ${by})`,
      cancel_at: sql`coalesce(cancel_at, ${time})`,
      ...(successor && {
        superseded_by: successor.id,
        superseded_sha: successor.sha,
        // Whether its repository has a Dockerfile at all is not known yet.
        neutral: sql`case when state = 'pending' and attempt = 0 and ${neverSucceeded} then 1 else neutral end`,
      }),
    })
    .where('id', '=', id)
    .where(inFlight)
    .where((eb) => eb.or([waiting, eb('publishing', '=', 0)]))
    .returning('id')
    .executeTakeFirst()
  const build = asked ? await readBuild(trx, id) : null
  if (build && isEnded(build.state)) await recordEnd(trx, id, time)
  return build
}

async function beginPublish(
  trx: Transaction<Schema>,
  id: string,
  attempt: number,
): Promise<Build | 'superseded' | 'cancel_requested'> {
  const mine = await change(trx, { id, attempt }, { publishing: 1 }, { unlessCancelled: true })
  const build = await readBuild(trx, id)
  if (!build || build.attempt !== attempt || build.state !== 'building') return 'superseded'
  return mine ? build : 'cancel_requested'
}

interface Claim {
  id: string
  worker: string
  time: RawBuilder<string>
  /** Null: takes the build from any worker that has it. Otherwise, only if it is not held. */
  heldUntil: RawBuilder<string> | null
}

/**
 * SQL: whether the worker of a build ran others at the same time. Also if it names no worker: either that was found out
 * when the first of the others was taken over (`markCompany`), or it had not started.
 */
const inCompany = sql<boolean>`(builds.worker is null or exists (
  select 1 from builds as other
  where other.worker = builds.worker and other.id <> builds.id
    and other.state = 'building' and other.state in ('pending', 'building')))`

async function claim(
  trx: Transaction<Schema>,
  { id, worker, time, heldUntil }: Claim,
): Promise<Build | null> {
  await oneTakeOverAtATime(trx, id)
  // This process is alive, whatever others think: its own builds were not cut off, but their results could not be stored.
  const isOwn = sql<boolean>`(coalesce(builds.worker, builds.suspect, '') = ${worker})`
  const isSuspect = sql<boolean>`coalesce(builds.suspect, ${worker}) <> ${worker}`
  const cutOffInCompany = sql<boolean>`builds.state = 'building' and not ${isOwn} and ${inCompany}`
  const claimed = await trx
    .updateTable('builds')
    .set({
      state: 'building',
      attempt: sql`attempt + 1`,
      started_at: sql`coalesce(started_at, ${time})`,
      ref_repushed: 0,
      publishing: 0,
      held_until: heldUntil,
      // A suspect has to wait until it can run alone.
      worker: sql`case when ${isSuspect} or ${cutOffInCompany} then null else ${worker} end`,
      spared: sql`case when ${cutOffInCompany} then spared + 1 else spared end`,
      suspect: sql`case when ${cutOffInCompany} then coalesce(worker, suspect, 'unknown')
        when ${isSuspect} then suspect end`,
    })
    .where('id', '=', id)
    .where(inFlight)
    .$if(heldUntil !== null, (query) =>
      query.where((eb) => eb.or([waiting, eb('held_until', 'is', null), eb('held_until', '<=', time)])),
    )
    .returning('suspect')
    .executeTakeFirst()
  if (!claimed) return null
  if (claimed.suspect !== null) await markCompany(trx, claimed.suspect)
  return readBuild(trx, id)
}

/** Serializes take-overs, so that each of a dead worker's builds sees whether another was taken over before. */
async function oneTakeOverAtATime(trx: Transaction<Schema>, id: string): Promise<void> {
  const { state } =
    (await trx.selectFrom('builds').select('state').where('id', '=', id).executeTakeFirst()) ?? {}
  if (state !== 'building') return
  // Only locks the row.
  await trx.updateTable('counters').set({ value: sql`value` }).where('name', '=', 'take-overs').execute()
}

/** Marks the other builds of a suspect's worker as suspects, too. */
async function markCompany(trx: Transaction<Schema>, worker: string): Promise<void> {
  await trx
    .updateTable('builds')
    .set({ worker: null, suspect: worker })
    .where(inFlight)
    .where(building)
    .where('worker', '=', worker)
    .execute()
}

interface Ending {
  id: string
  attempt: number
  refsSeen: number
  result: BuildResult
  time: RawBuilder<string>
}

async function finish(trx: Transaction<Schema>, ending: Ending): Promise<Finish> {
  const { id, attempt, refsSeen, result, time } = ending
  // Only locks the row, against a concurrent `accept` that adds a ref.
  const held = await change(trx, { id, attempt }, { attempt })
  if (!held) return 'superseded'
  if (held.cancel_by !== null && result.state !== 'cancelled') return 'cancel_requested'

  if (result.state === 'succeeded') {
    const { refs } = await trx
      .selectFrom('build_refs')
      .select((select) => select.fn.countAll().as('refs'))
      .where('build_id', '=', id)
      .executeTakeFirstOrThrow()
    if (Number(refs) > refsSeen || held.ref_repushed === 1) {
      await trx.updateTable('builds').set({ ref_repushed: 0 }).where('id', '=', id).execute()
      return 'refs_added'
    }
    await trx
      .insertInto('artifacts')
      .values({
        id: randomUUID(),
        build_id: id,
        image: result.image,
        tags: JSON.stringify(result.tags),
        recipe_key: result.recipe ? recipeKey(result.recipe) : null,
        recipe: result.recipe ? JSON.stringify(result.recipe) : null,
        tree: result.tree ?? null,
        bases: result.bases ? JSON.stringify(result.bases) : null,
        created_at: time,
      })
      .execute()
  }
  await trx
    .updateTable('builds')
    .set({
      state: result.state,
      error: result.state === 'succeeded' ? null : storable(result.error),
      error_kind: result.state === 'succeeded' ? null : result.errorKind,
      completed_at: time,
      ...(result.state !== 'succeeded' &&
        result.noDockerfile && { neutral: sql`case when ${neverSucceeded} then 1 else 0 end` }),
    })
    .where('id', '=', id)
    .execute()
  await recordEnd(trx, id, time)
  return 'finished'
}
