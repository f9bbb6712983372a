import { sql, type Transaction } from 'kysely'
import type { Ref } from '../../core/build.ts'
import type { TagMove } from '../build-store.ts'
import type { TagDatabase } from './dialect.ts'
import { type Queries, type Schema, succeeded } from './schema.ts'

/** How many refs are searched for the first that an older version published under a tag. */
const CANDIDATES = 200

/** A move with its final name. */
export interface NamedMove extends TagMove {
  name: string
  /** The Docker tag of the ref that a shared tag follows; null if it follows none, or the ref owns none yet. */
  ownTag: string | null
}

/**
 * Determines the name of each move: the first name that its ref owns, or that is free and so becomes the ref's. Moves
 * without such a name are dropped. Shared tags come last, as they follow the others.
 */
export async function nameMoves(
  { db, write }: TagDatabase,
  imageName: string,
  moves: TagMove[],
): Promise<NamedMove[]> {
  const named: NamedMove[] = []
  for (const move of moves.filter(({ shared }) => !shared)) {
    const name = move.owner
      ? // Usually it owns one already, and nothing needs to be written.
        ((await ownTag(db, imageName, move.owner.ref)) ??
        (await write((trx) => claimTag(trx, imageName, move))))
      : move.tag
    if (name !== null) named.push({ ...move, name, ownTag: null })
  }
  for (const move of moves) {
    const { shared } = move
    if (!shared) continue
    const own = shared === true ? null : await ownTag(db, imageName, shared.ref)
    // A ref without a tag of its own does not move shared tags.
    const isOwn = ({ owner }: TagMove) =>
      shared !== true && owner?.ref.kind === shared.ref.kind && owner.ref.name === shared.ref.name
    if (own === null && moves.some(isOwn)) continue
    named.push({ ...move, name: move.tag, ownTag: own })
  }
  return named
}

/** The Docker tag that a ref owns. */
export async function ownTag(db: Queries, imageName: string, { kind, name }: Ref): Promise<string | null> {
  const row = await db
    .selectFrom('tag_owners')
    .select('tag')
    .where('image_name', '=', imageName)
    .where('kind', '=', kind)
    .where('name', '=', name)
    .executeTakeFirst()
  return row?.tag ?? null
}

/** Gives the ref of a move the first of its names that is free; null if all are taken. */
async function claimTag(
  trx: Transaction<Schema>,
  imageName: string,
  { tag, sequence, owner }: TagMove,
): Promise<string | null> {
  if (!owner) return null
  const { ref } = owner
  const first = (await firstPublished(trx, imageName, tag, sequence)) ?? ref
  await own(trx, imageName, tag, first)
  for (const name of [tag, ...owner.others]) {
    const holder = await own(trx, imageName, name, ref)
    if (holder.kind === ref.kind && holder.name === ref.name) return name
  }
  return null
}

/** Makes a ref the owner of a tag, if it has none. @returns the owner */
async function own(trx: Transaction<Schema>, imageName: string, tag: string, ref: Ref): Promise<Ref> {
  await trx
    .insertInto('tag_owners')
    .values({ image_name: imageName, tag, ...ref })
    .onConflict((conflict) => conflict.columns(['image_name', 'tag']).doNothing())
    .execute()
  return trx
    .selectFrom('tag_owners')
    .select(['kind', 'name'])
    .where('image_name', '=', imageName)
    .where('tag', '=', tag)
    .executeTakeFirstOrThrow()
}

/**
 * The ref that a tag without an owner was first published for; null if it is not in use. An older version did not store
 * owners. It used names without a slash as they are, and replaced a single slash by a dash.
 */
async function firstPublished(
  trx: Transaction<Schema>,
  imageName: string,
  tag: string,
  sequence: number,
): Promise<Ref | null> {
  const used = await trx
    .selectFrom('tag_positions')
    .select('tag')
    .where('image_name', '=', imageName)
    .where('tag', '=', tag)
    .executeTakeFirst()
  if (!used) return null
  const push = await trx
    .selectFrom('pushes')
    .select(['repository_key', 'name'])
    .where('sequence', '=', sequence)
    .executeTakeFirst()
  if (!push) return null
  const refs = await trx
    .selectFrom('build_refs')
    .innerJoin('builds', 'builds.id', 'build_refs.build_id')
    .select(['build_refs.kind', 'build_refs.name'])
    .where('builds.repository_key', '=', push.repository_key)
    .where(succeeded)
    .where((eb) =>
      eb.or([
        eb('build_refs.name', 'in', [tag, push.name ?? tag]),
        sql<boolean>`replace(build_refs.name, '/', '-') = ${tag}`,
      ]),
    )
    .orderBy('build_refs.sequence')
    .limit(CANDIDATES)
    .execute()
  const hasTag = (name: string) =>
    name === tag || name === push.name || (/^[^/-]+\/[^/]+$/.test(name) && name.replace('/', '-') === tag)
  return refs.find(({ name }) => hasTag(name)) ?? null
}
