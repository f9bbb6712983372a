import { sql, type Transaction } from 'kysely'
import type { Ref } from '../../core/build.ts'
import type { TagMove } from '../build-store.ts'
import type { TagDatabase } from './dialect.ts'
import type { Queries, Schema } from './schema.ts'

/** Refs that an older version gave one docker tag: how many are looked at for the first of them. */
const CANDIDATES = 200

/** A move under the name that it has in the end. */
export interface NamedMove extends TagMove {
  name: string
  /** The docker tag of the ref that a shared tag follows; null where it follows none, or the ref has none yet. */
  ownTag: string | null
}

/**
 * Finds the name of each move: of those that a ref may have, the first that is its own or nobody's, which makes it
 * the ref's own. Moves that find none are left out. Those of shared tags come last, as they follow the others.
 */
export async function nameMoves(
  { db, write }: TagDatabase,
  imageName: string,
  moves: TagMove[],
): Promise<NamedMove[]> {
  const named: NamedMove[] = []
  for (const move of moves.filter(({ shared }) => !shared)) {
    const name = move.owner
      ? // Nearly always it has one already, and nothing is to be written.
        ((await ownTag(db, imageName, move.owner.ref)) ??
        (await write((trx) => claimTag(trx, imageName, move))))
      : move.tag
    if (name !== null) named.push({ ...move, name, ownTag: null })
  }
  for (const move of moves) {
    const { shared } = move
    if (!shared) continue
    const own = shared === true ? null : await ownTag(db, imageName, shared.ref)
    // A ref that found no name for itself moves nothing else.
    const isOwn = ({ owner }: TagMove) =>
      shared !== true && owner?.ref.kind === shared.ref.kind && owner.ref.name === shared.ref.name
    if (own === null && moves.some(isOwn)) continue
    named.push({ ...move, name: move.tag, ownTag: own })
  }
  return named
}

/** The docker tag that a ref has. */
async function ownTag(db: Queries, imageName: string, { kind, name }: Ref): Promise<string | null> {
  const row = await db
    .selectFrom('tag_owners')
    .select('tag')
    .where('image_name', '=', imageName)
    .where('kind', '=', kind)
    .where('name', '=', name)
    .executeTakeFirst()
  return row?.tag ?? null
}

/** Gives the ref of a move the first of its names that nobody has; null where all are taken. */
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
    const whose = await own(trx, imageName, name, ref)
    if (whose.kind === ref.kind && whose.name === ref.name) return name
  }
  return null
}

/** Makes a tag the ref's own if it is nobody's. @returns whose it is */
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
 * The ref that a tag was first published for, where nobody owns it but it is in use: an older version kept no
 * owners. Names without a slash are tags as they are, and the one slash of others became a dash.
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
  const asking = await trx
    .selectFrom('pushes')
    .select(['repository_key', 'name'])
    .where('sequence', '=', sequence)
    .executeTakeFirst()
  if (!asking) return null
  const refs = await trx
    .selectFrom('build_refs')
    .innerJoin('builds', 'builds.id', 'build_refs.build_id')
    .select(['build_refs.kind', 'build_refs.name'])
    .where('builds.repository_key', '=', asking.repository_key)
    .where('builds.state', '=', 'succeeded')
    .where((eb) =>
      eb.or([
        eb('build_refs.name', 'in', [tag, asking.name ?? tag]),
        sql<boolean>`replace(build_refs.name, '/', '-') = ${tag}`,
      ]),
    )
    .orderBy('build_refs.sequence')
    .limit(CANDIDATES)
    .execute()
  const isCalledSo = (name: string) =>
    name === tag || name === asking.name || (/^[^/-]+\/[^/]+$/.test(name) && name.replace('/', '-') === tag)
  return refs.find(({ name }) => isCalledSo(name)) ?? null
}
