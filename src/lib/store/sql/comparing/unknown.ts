import type { Ref } from '../../../core/build.ts'
import { repositoryKey } from '../../../core/repository-key.ts'
import { batches } from '../../../util/collections/batches.ts'
import type { Candidate } from '../../comparisons.ts'
import { isNewer } from '../accept.ts'
import { isSigned, type Queries, type Schema } from '../schema.ts'
import { SKEW_MS } from './found.ts'

/** Events whose payload says what a ref points to now. */
const EVENTS = ['push', 'merge_group']
/** Candidates that are looked up in one query. */
const AT_ONCE = 200

type PushRow = Pick<Schema['pushes'], 'kind' | 'name' | 'sha' | 'signed' | 'pushed_at' | 'found_at'> & {
  sequence: number
}

/** Comparisons.unknown. */
export async function unknownHeads(
  db: Queries,
  repository: string,
  candidates: Candidate[],
  sequence: number,
): Promise<Candidate[]> {
  const unknown: Candidate[] = []
  for (const some of batches(candidates, AT_ONCE)) {
    const [pushes, ignored] = await Promise.all([
      readRelevant(db, repository, some, sequence),
      readIgnored(db, repository, some),
    ])
    for (const one of some) {
      const ofRef = pushes.get(keyOfRef(one.ref)) ?? []
      const isKnown =
        ignored.has(ignoredKey(one.ref, one.sha)) || ignored.has(ignoredKey(one.ref, one.object))
      if (!isKnown && (await isMissed(db, one, ofRef, sequence))) unknown.push(one)
    }
  }
  return unknown
}

/**
 * Whether no push that was accepted made this commit the head of its ref; or one did, but then another one moved the ref
 * elsewhere, and the push that brought it back was not announced.
 */
async function isMissed(
  db: Queries,
  { sha, before }: Candidate,
  ofRef: PushRow[],
  sequence: number,
): Promise<boolean> {
  const own = ofRef.filter((push) => push.sha === sha).at(-1)
  if (!own) return true
  const elsewhere = ofRef.filter(
    (push) => push.sha !== sha && (push.sha === before || (push.signed === 1 && push.sequence > sequence)),
  )
  for (const push of elsewhere) if (await isLater(db, push, own)) return true
  return false
}

/** Whether the ref was pushed there after it was at its head. */
async function isLater(db: Queries, push: PushRow, own: PushRow): Promise<boolean> {
  // When a head was found, the ref was there, whenever the push was that brought it there.
  if (own.found_at !== null) {
    return push.pushed_at !== null && Number(push.pushed_at) * 1000 > Date.parse(own.found_at) + SKEW_MS
  }
  return isNewer(db, push.sequence, own.sequence)
}

/** The pushes of some refs that matter here, by ref, in the order of their arrival. */
async function readRelevant(
  db: Queries,
  repository: string,
  candidates: Candidate[],
  sequence: number,
): Promise<Map<string, PushRow[]>> {
  const commits = [
    ...new Set(candidates.flatMap(({ sha, before }) => (before === null ? [sha] : [sha, before]))),
  ]
  const names = [...new Set(candidates.map(({ ref }) => ref.name))]
  const pushes = db
    .selectFrom('pushes')
    .select(['sequence', 'kind', 'name', 'sha', 'signed', 'pushed_at', 'found_at'])
    .where('repository_key', '=', repositoryKey(repository))
    .where('name', 'in', names)
  const [ofCommits, later] = await Promise.all([
    pushes.where('sha', 'in', commits).execute(),
    pushes.where('sequence', '>', sequence).where(isSigned).execute(),
  ])
  const all = new Map([...ofCommits, ...later].map((row) => [Number(row.sequence), row]))
  const sorted = [...all.values()]
    .map((row) => ({ ...row, sequence: Number(row.sequence) }))
    .sort((one, other) => one.sequence - other.sequence)
  return Map.groupBy(sorted, ({ kind, name }) =>
    kind === null || name === null ? '' : keyOfRef({ kind, name }),
  )
}

/** The refs and commits of webhooks that built nothing. */
async function readIgnored(db: Queries, repository: string, candidates: Candidate[]): Promise<Set<string>> {
  const ids = [...new Set(candidates.flatMap(({ sha, object }) => [sha, object]))]
  const rows = await db
    .selectFrom('ignored_deliveries')
    .select(['ref', 'sha'])
    .where('repository_key', '=', repositoryKey(repository))
    .where('sha', 'in', ids)
    .where('event', 'in', EVENTS)
    .execute()
  return new Set(rows.map(({ ref, sha }) => `${ref} ${sha}`))
}

function ignoredKey({ kind, name }: Ref, sha: string): string {
  return `refs/${kind === 'branch' ? 'heads' : 'tags'}/${name} ${sha}`
}

function keyOfRef({ kind, name }: Ref): string {
  return `${kind} ${name}`
}
