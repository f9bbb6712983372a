import { randomUUID } from 'node:crypto'
import { sql, type Transaction } from 'kysely'
import type { BuildRequest, Ref } from '../build/build.ts'
import { ConveyorError } from '../errors.ts'
import type { Accepted } from './build-store.ts'
import { keyOf, readBuild } from './rows.ts'
import { inFlight, type Queries, type Schema } from './schema.ts'

/**
 * BuildStore.accept inside its transaction. It begins by taking a sequence number: that locks the counter's
 * row, so on any database requests are accepted one after another, and numbers are in the order of commits.
 */
export async function accept(
  trx: Transaction<Schema>,
  request: BuildRequest,
  time: string,
): Promise<Accepted> {
  const next = await nextSequence(trx)
  const { source } = request

  if (source.kind === 'webhook') {
    const before = await trx
      .selectFrom('deliveries')
      .select('build_id')
      .where('id', '=', source.delivery)
      .executeTakeFirst()
    if (before) return { ...(await stored(trx, before.build_id)), outcome: 'redelivered' }
  }

  const running = await join(trx, request)
  const id = running ?? (await create(trx, request, next, time))
  if (request.ref)
    await addRef(trx, id, request.ref, await refSequence(trx, request, request.ref, next), next)
  if (source.kind === 'webhook') {
    await trx
      .insertInto('deliveries')
      .values({ id: source.delivery, build_id: id, created_at: time })
      .execute()
  }
  return { ...(await stored(trx, id)), outcome: running ? 'joined' : 'created' }
}

/** Takes the next number of the one sequence that orders all requests. */
export async function nextSequence(trx: Transaction<Schema>): Promise<number> {
  const counter = await trx
    .updateTable('counters')
    .set({ value: sql`value + 1` })
    .where('name', '=', 'sequence')
    .returning('value')
    .executeTakeFirstOrThrow()
  return Number(counter.value)
}

/**
 * The id of the pending or building build of the same commit, which now also serves `request`.
 * An UPDATE even where nothing changes, so that the row is locked against a `finish` at the same time.
 */
async function join(trx: Transaction<Schema>, request: BuildRequest): Promise<string | undefined> {
  const build = await trx
    .updateTable('builds')
    .set({
      default_branch: sql`coalesce(default_branch, ${request.defaultBranch})`,
      tree: sql`coalesce(tree, ${request.tree ?? null})`,
      // A build that has begun can no longer do without what it took from the cache.
      cache: request.cache ? sql`cache` : sql`case state when 'pending' then 0 else cache end`,
    })
    .where('repository_key', '=', keyOf(request.repository))
    .where('sha', '=', request.sha)
    .where(inFlight)
    .returning('id')
    .executeTakeFirst()
  return build?.id
}

async function create(
  trx: Transaction<Schema>,
  request: BuildRequest,
  next: number,
  time: string,
): Promise<string> {
  const earlier = request.ref ? undefined : await newestOf(trx, request.repository, request.sha)
  const id = randomUUID()
  await trx
    .insertInto('builds')
    .values({
      id,
      sequence: next,
      repository: request.repository,
      repository_key: keyOf(request.repository),
      sha: request.sha,
      default_branch: request.defaultBranch,
      cache: request.cache ? 1 : 0,
      tree: request.tree ?? null,
      push_order: earlier ? earlier.push_order : next,
      state: 'pending',
      attempt: 0,
      queued: 0,
      held_until: null,
      ref_repushed: 0,
      error: null,
      error_kind: null,
      reported: 0,
      created_at: time,
      started_at: null,
      completed_at: null,
    })
    .execute()
  return id
}

/** The newest build of a commit. */
export function newestOf(db: Queries, repository: string, sha: string) {
  return db
    .selectFrom('builds')
    .select(['id', 'push_order'])
    .where('repository_key', '=', keyOf(repository))
    .where('sha', '=', sha)
    .orderBy('sequence', 'desc')
    .limit(1)
    .executeTakeFirst()
}

/** The position of a ref's push, by the rules of BuildStore.accept. */
async function refSequence(
  trx: Transaction<Schema>,
  request: BuildRequest,
  ref: Ref,
  next: number,
): Promise<number> {
  if (request.sequence !== undefined) {
    // A number from the future would keep every later push from moving the tag.
    if (Number.isSafeInteger(request.sequence) && request.sequence > 0 && request.sequence < next) {
      return request.sequence
    }
    throw new ConveyorError('invalid', `sequence number ${request.sequence} was never reserved`)
  }
  if (request.source.kind === 'webhook') return next
  const pushed = await trx
    .selectFrom('build_refs')
    .innerJoin('builds', 'builds.id', 'build_refs.build_id')
    .select((select) => select.fn.max('build_refs.sequence').as('sequence'))
    .where('builds.repository_key', '=', keyOf(request.repository))
    .where('builds.sha', '=', request.sha)
    .where('build_refs.kind', '=', ref.kind)
    .where('build_refs.name', '=', ref.name)
    .executeTakeFirst()
  return Number(pushed?.sequence ?? next)
}

/** Adds a ref to a build, or moves the one that it has to a newer push. */
async function addRef(
  trx: Transaction<Schema>,
  id: string,
  ref: Ref,
  sequence: number,
  position: number,
): Promise<void> {
  const changed = await trx
    .insertInto('build_refs')
    .values({ build_id: id, kind: ref.kind, name: ref.name, sequence, position })
    .onConflict((conflict) =>
      conflict
        .columns(['build_id', 'kind', 'name'])
        .doUpdateSet({ sequence })
        .where('build_refs.sequence', '<', sequence),
    )
    .returning('position')
    .executeTakeFirst()
  if (!changed) return
  const repushed = Number(changed.position) !== position
  await trx
    .updateTable('builds')
    .set({
      push_order: sql`(select max(sequence) from build_refs where build_id = ${id})`,
      ...(repushed && { ref_repushed: 1 }),
    })
    .where('id', '=', id)
    .execute()
}

async function stored(trx: Transaction<Schema>, id: string): Promise<Omit<Accepted, 'outcome'>> {
  const build = await readBuild(trx, id)
  const row = await trx.selectFrom('builds').select('queued').where('id', '=', id).executeTakeFirst()
  if (!build || !row) throw new Error(`build ${id} is gone`)
  return { build, queued: row.queued === 1 }
}
