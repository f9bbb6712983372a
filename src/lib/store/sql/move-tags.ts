import type { Kysely, Transaction } from 'kysely'
import { ConveyorError } from '../../core/errors.ts'
import { compare, compareByArrival, compareByChain, type Push } from '../../core/push-order.ts'
import type { Settle, TagMove } from '../build-store.ts'
import type { TagDatabase } from './dialect.ts'
import { concurrentPushes, readPushes } from './pushes.ts'
import type { Schema } from './schema.ts'
import { nameMoves } from './tag-owners.ts'

/** A new position to record for a tag. */
interface Recording {
  /** The recorded position; null if there is none. */
  from: number | null
  to: number
}

/**
 * Determines and records the tags that BuildStore.moveTags may move, in the order given, each once. The caller holds the
 * lock of the image, so that positions don't change in between. If the lock is lost, as with a connection to a database,
 * nothing is recorded.
 * @throws ConveyorError `unavailable` if another process moved a tag in between
 */
export async function mayMove(
  database: TagDatabase,
  imageName: string,
  moves: TagMove[],
  settle: Settle | undefined,
): Promise<string[]> {
  const { db, write } = database
  const named = await nameMoves(database, imageName, moves)
  const tags = named.flatMap(({ name, ownTag }) => (ownTag === null ? [name] : [name, ownTag]))
  /** The position of each tag, including moves of this call. */
  const at = await positions(db, imageName, [...new Set(tags)])
  const isNewer = await judge(db, [...named.map(({ sequence }) => sequence), ...at.values()], settle)

  const recordings = new Map<string, Recording>()
  for (const { name, sequence, owner, shared, ownTag } of named) {
    if (shared && recordings.has(name)) continue
    // The tag belongs to another ref.
    if (typeof shared === 'object' && ownTag !== null && ownTag !== shared.as) continue
    const present = at.get(name)
    const mayMoveIt =
      owner || shared
        ? (await isNewer(sequence, present)) && (ownTag === null || (await isNewer(sequence, at.get(ownTag))))
        : present === undefined || present <= sequence
    if (!mayMoveIt) continue
    recordings.set(name, { from: recordings.get(name)?.from ?? present ?? null, to: sequence })
    at.set(name, sequence)
  }
  if (recordings.size > 0) await write((trx) => record(trx, imageName, recordings))
  return [...new Set(named.map(({ name }) => name))].filter((name) => recordings.has(name))
}

/** Creates the function that decides whether a push is newer than another; decides each pair only once. */
async function judge(db: Kysely<Schema>, sequences: number[], settle: Settle | undefined) {
  const pushes = await readPushes(db, [...new Set(sequences)])
  const settled = new Map<string, Promise<boolean>>()
  return async (candidate: number, present: number | undefined): Promise<boolean> => {
    const [one, other] = [pushes.get(candidate), pushes.get(present ?? candidate)]
    if (present === undefined || !one || !other) return true
    const verdict = compare(one, other)
    if (verdict !== 'doubt') return verdict === 'newer'
    const key = `${candidate} ${present}`
    const answer = settled.get(key) ?? decide(db, one, other, settle)
    settled.set(key, answer)
    return answer
  }
}

async function decide(
  db: Kysely<Schema>,
  candidate: Push,
  present: Push,
  settle: Settle | undefined,
): Promise<boolean> {
  const others = await concurrentPushes(db, candidate)
  if (settle) return settle(candidate, present, others)
  const verdict = compareByChain(candidate, present, others)
  return (verdict === 'doubt' ? compareByArrival(candidate, present) : verdict) === 'newer'
}

async function positions(
  db: Kysely<Schema>,
  imageName: string,
  tags: string[],
): Promise<Map<string, number>> {
  if (tags.length === 0) return new Map()
  const rows = await db
    .selectFrom('tag_positions')
    .select(['tag', 'sequence'])
    .where('image_name', '=', imageName)
    .where('tag', 'in', tags)
    .execute()
  return new Map(rows.map(({ tag, sequence }) => [tag, Number(sequence)]))
}

async function record(
  trx: Transaction<Schema>,
  imageName: string,
  recordings: Map<string, Recording>,
): Promise<void> {
  for (const [tag, { from, to: sequence }] of recordings) {
    const recorded = await trx
      .insertInto('tag_positions')
      .values({ image_name: imageName, tag, sequence })
      .onConflict((conflict) =>
        conflict
          .columns(['image_name', 'tag'])
          .doUpdateSet({ sequence })
          .where('tag_positions.sequence', '=', from ?? sequence),
      )
      .returning('tag')
      .executeTakeFirst()
    if (!recorded) {
      throw new ConveyorError(
        'unavailable',
        `tag ${tag} of ${imageName} was moved by another process in the meantime`,
      )
    }
  }
}
