import { randomUUID } from 'node:crypto'
import { type RawBuilder, sql, type Transaction } from 'kysely'
import type { BuildRequest, Ref } from '../../core/build.ts'
import { ConveyorError } from '../../core/errors.ts'
import { compare, compareByArrival, compareByChain } from '../../core/push-order.ts'
import { repositoryKey } from '../../core/repository-key.ts'
import { isPushed } from '../../core/validate.ts'
import type { IdempotencyKey } from '../build-list.ts'
import type { Accepted } from '../build-store.ts'
import { compareFromNowOn, foundBefore } from './comparing/found.ts'
import type { StoreDialect } from './dialect.ts'
import { unlessKnown } from './lists/commit.ts'
import { KEYS_KEPT_S, keepKey, keyedBuild } from './lists/idempotency.ts'
import { type Place, placeBuild, placeRef, placeTitle } from './lists/places.ts'
import { touchPull } from './pulls/pulls.ts'
import { addPush, concurrentPushes, newestFirst, readPushes, samePush, spell } from './pushes.ts'
import { commitColumns, forkColumns, readQueued } from './rows.ts'
import { inFlight, notCancelled, type Queries, type Schema, storable } from './schema.ts'
import { supersede } from './waiting/supersede.ts'
import { laneOf, nextRound } from './waiting/turn.ts'

/**
 * BuildStore.accept inside its transaction. It first takes a sequence number, which locks the counter's row: so requests
 * are accepted one after another on any database, and numbers are in the order of commits.
 */
export async function accept(
  trx: Transaction<Schema>,
  original: BuildRequest,
  timeIn: StoreDialect['time'],
  key?: IdempotencyKey,
): Promise<Accepted> {
  const next = await nextSequence(trx)
  const keyed = key && (await keyedBuild(trx, key, timeIn(-KEYS_KEPT_S)))
  if (keyed) return redelivered(trx, keyed)
  const time = timeIn()
  const { source } = original
  const deliveredFor = async (buildId: string) => {
    if (source.kind !== 'webhook') return
    await trx
      .insertInto('deliveries')
      .values({ id: source.delivery, build_id: buildId, created_at: time })
      .execute()
  }

  if (source.kind === 'webhook') {
    const before = await trx
      .selectFrom('deliveries')
      .select('build_id')
      .where('id', '=', source.delivery)
      .executeTakeFirst()
    if (before) return redelivered(trx, before.build_id)
  }
  const same = await samePush(trx, original)
  if (same && !same.again) {
    await deliveredFor(same.buildId)
    return redelivered(trx, same.buildId)
  }

  const request = { ...original, repository: await spell(trx, original) }
  if (source.kind === 'webhook') await compareFromNowOn(trx, request.repository, time)
  const found = await foundBefore(trx, request)
  if (found) {
    const running = await join(trx, request, found.sequence)
    await deliveredFor(found.buildId)
    return {
      ...(await stored(trx, found.buildId)),
      outcome: running?.id === found.buildId ? 'joined' : 'redelivered',
    }
  }
  const sequence = await positionOf(trx, request, next)
  const running = await join(trx, request, sequence)
  const { id, place } = running ?? (await create(trx, request, { sequence: next, pushOrder: sequence, time }))
  if (sequence !== 0) await addPush(trx, request, { sequence, buildId: id, again: same !== null, time })
  if (request.ref?.kind === 'pull') await touchPull(trx, request.repository, request.ref.name)
  if (request.ref) await (running ? joinRef : addRef)(trx, { id, place }, request.ref, sequence, next)
  await deliveredFor(id)
  if (key) await keepKey(trx, key, id, timeIn)
  const newer = (one: number, other: number) => isNewer(trx, one, other)
  const superseded = await supersede(trx, { id, request, sequence }, newer, time)
  return {
    ...(await stored(trx, id)),
    outcome: running ? 'joined' : 'created',
    ...(superseded.length > 0 && { superseded }),
  }
}

async function redelivered(trx: Transaction<Schema>, id: string): Promise<Accepted> {
  return { ...(await stored(trx, id)), outcome: 'redelivered' }
}

/** Takes the next number of the sequence that orders all requests. */
export async function nextSequence(trx: Transaction<Schema>): Promise<number> {
  const counter = await trx
    .updateTable('counters')
    .set({ value: sql`value + 1` })
    .where('name', '=', 'sequence')
    .returning('value')
    .executeTakeFirstOrThrow()
  return Number(counter.value)
}

interface Placed {
  id: string
  place: Place
}

/**
 * The pending or building build of the same commit, and of the same fork, which now also serves `request`: not one that is being
 * cancelled, as nobody would build the request. An UPDATE even if nothing changes, to lock the row against a concurrent
 * `finish` or `requestCancel`.
 */
async function join(
  trx: Transaction<Schema>,
  request: BuildRequest,
  sequence: number,
): Promise<Placed | undefined> {
  const build = await trx
    .updateTable('builds')
    .set({
      default_branch: sql`coalesce(default_branch, ${request.defaultBranch})`,
      tree: sql`coalesce(tree, ${request.tree ?? null})`,
      ...(request.trace !== undefined && { trace: sql<string>`coalesce(trace, ${request.trace})` }),
      ...(request.commit && unlessKnown(request.commit)),
      // A build that has started may have used the cache already.
      cache: request.cache ? sql`cache` : sql`case state when 'pending' then 0 else cache end`,
      ...(request.ref === null && {
        push_order: sql`case push_order when 0 then ${sequence} else push_order end`,
      }),
      ...(request.withheld && { withheld: JSON.stringify(request.withheld) }),
    })
    .where('repository_key', '=', repositoryKey(request.repository))
    .where('sha', '=', request.sha)
    .where('fork', '=', request.fork?.pull ?? 0)
    .where(inFlight)
    .where(notCancelled)
    .returning(['id', 'sequence', 'lane', 'state'])
    .executeTakeFirst()
  if (!build) return undefined
  const lane = laneOf(request)
  if (lane < build.lane) {
    // Now somebody waits for it. The queue gets it again, to learn its new turn.
    const isWaiting = build.state === 'pending'
    const turn = isWaiting && { round: nextRound(request.repository, lane), queued: 0 }
    await trx
      .updateTable('builds')
      .set({ lane, ...turn })
      .where('id', '=', build.id)
      .execute()
  }
  const place = { repositoryKey: repositoryKey(request.repository), sequence: Number(build.sequence) }
  if (request.commit) await placeTitle(trx, place.sequence, request.commit)
  return { id: build.id, place }
}

async function create(
  trx: Transaction<Schema>,
  request: BuildRequest,
  { sequence, pushOrder, time }: { sequence: number; pushOrder: number; time: RawBuilder<string> },
): Promise<Placed> {
  const id = randomUUID()
  const lane = laneOf(request)
  const place = { repositoryKey: repositoryKey(request.repository), sequence }
  await trx
    .insertInto('builds')
    .values({
      id,
      sequence,
      repository: request.repository,
      repository_key: place.repositoryKey,
      sha: request.sha,
      default_branch: request.defaultBranch,
      cache: request.cache ? 1 : 0,
      tree: request.tree ?? null,
      trace: request.trace ?? null,
      source: request.source.kind,
      reason: request.reason === undefined ? null : storable(request.reason),
      ...commitColumns(request.commit),
      ...forkColumns(request.fork),
      push_order: request.ref && !isPushed(request.ref) ? 0 : pushOrder,
      withheld: request.withheld ? JSON.stringify(request.withheld) : null,
      ...{ lane, round: nextRound(request.repository, lane) },
      state: 'pending',
      attempt: 0,
      queued: 0,
      held_until: null,
      worker: null,
      suspect: null,
      spared: 0,
      ref_repushed: 0,
      cancel_by: null,
      cancel_at: null,
      superseded_by: null,
      superseded_sha: null,
      neutral: 0,
      publishing: 0,
      error: null,
      error_kind: null,
      reported: 0,
      created_at: time,
      started_at: null,
      completed_at: null,
    })
    .execute()
  await placeBuild(trx, place, request)
  return { id, place }
}

/** The newest build of a commit: see BuildStore.newest. */
export function newestOf(db: Queries, repository: string, sha: string, pull: number | 'any' | null = null) {
  return db
    .selectFrom('builds')
    .select(['id', 'push_order'])
    .where('repository_key', '=', repositoryKey(repository))
    .where('sha', '=', sha)
    .$if(pull !== 'any', (query) => query.where('fork', '=', Number(pull)))
    .orderBy('sequence', 'desc')
    .limit(1)
    .executeTakeFirst()
}

/** The position of a request among those that move tags, by the rules of BuildStore.accept; 0 if it moves none. */
async function positionOf(trx: Transaction<Schema>, request: BuildRequest, next: number): Promise<number> {
  const { ref } = request
  if (request.sequence !== undefined) {
    // A number that is not reserved yet would keep later pushes from moving the tag.
    if (Number.isSafeInteger(request.sequence) && request.sequence > 0 && request.sequence < next) {
      return request.sequence
    }
    throw new ConveyorError('invalid', `sequence number ${request.sequence} was never reserved`)
  }
  if (ref === null) {
    if (request.withheld) return 0
    return Number((await newestOf(trx, request.repository, request.sha))?.push_order) || next
  }
  if (request.source.kind === 'webhook' || request.found) return next
  const pushed = await trx
    .selectFrom('pushes')
    .select('sequence')
    .where('repository_key', '=', repositoryKey(request.repository))
    .where('sha', '=', request.sha)
    .where('kind', '=', ref.kind)
    .where('name', '=', ref.name)
    .orderBy(newestFirst)
    .executeTakeFirst()
  return Number(pushed?.sequence ?? next)
}

/** Adds a ref that a build does not have. */
async function addRef(
  trx: Transaction<Schema>,
  { id, place }: Placed,
  ref: Ref,
  sequence: number,
  position: number,
): Promise<void> {
  await trx
    .insertInto('build_refs')
    .values({
      ...{ build_id: id, kind: ref.kind, name: ref.name, sequence, position },
      ...{ repository_key: place.repositoryKey, build_sequence: place.sequence },
    })
    .execute()
  await placeRef(trx, place, ref)
}

/** Adds a ref to a build that may have others, or moves it to a newer push. */
async function joinRef(
  trx: Transaction<Schema>,
  placed: Placed,
  ref: Ref,
  sequence: number,
  position: number,
): Promise<void> {
  const { id } = placed
  const known = await trx
    .selectFrom('build_refs')
    .select('sequence')
    .where('build_id', '=', id)
    .where('kind', '=', ref.kind)
    .where('name', '=', ref.name)
    .executeTakeFirst()
  if (known && !(await isNewer(trx, sequence, Number(known.sequence)))) return
  if (known) {
    await trx
      .updateTable('build_refs')
      .set({ sequence })
      .where('build_id', '=', id)
      .where('kind', '=', ref.kind)
      .where('name', '=', ref.name)
      .execute()
  } else await addRef(trx, placed, ref, sequence, position)
  const refs = await trx
    .selectFrom('build_refs')
    .innerJoin('pushes', 'pushes.sequence', 'build_refs.sequence')
    .select(['build_refs.kind', 'build_refs.name', 'build_refs.sequence'])
    .where('build_refs.build_id', '=', id)
    .orderBy(newestFirst)
    .execute()
  const newest = refs.find(isPushed)
  await trx
    .updateTable('builds')
    .set({
      push_order: newest?.sequence ?? sql`push_order`,
      ref_repushed: known ? 1 : sql`ref_repushed`,
    })
    .where('id', '=', id)
    .execute()
}

/** Whether one push of a commit is newer than another. If that is in doubt, it only matters for `latest`. */
export async function isNewer(db: Queries, sequence: number, known: number): Promise<boolean> {
  if (sequence === known) return false
  const pushes = await readPushes(db, [sequence, known])
  const [one, other] = [pushes.get(sequence), pushes.get(known)]
  if (!one || !other) return sequence > known
  const verdict = compare(one, other)
  if (verdict !== 'doubt') return verdict === 'newer'
  const chained = compareByChain(one, other, await concurrentPushes(db, one))
  return (chained === 'doubt' ? compareByArrival(one, other) : chained) === 'newer'
}

async function stored(trx: Transaction<Schema>, id: string): Promise<Pick<Accepted, 'build' | 'queued'>> {
  const found = await readQueued(trx, id)
  if (!found) throw new Error(`build ${id} is gone`)
  return found
}
