import type { Ref } from './build.ts'

/**
 * Which of two pushes is newer. Deliveries arrive in any order, late, and more than once; a docker tag must end up
 * where the ref points, and never move back. C (candidate) wants a tag that R (recorded) has:
 *
 * | C and R                                            | newer is                                          |
 * |----------------------------------------------------|---------------------------------------------------|
 * | the same push                                      | C: it is a retry                                  |
 * | both signed, pushed in different seconds           | the later one, by `repository.pushed_at`          |
 * | of two refs (`latest`), in different seconds       | the later one                                     |
 * | of two refs, in the same second or an unknown one  | the one that arrived later                        |
 * | of one ref, otherwise: in doubt, decided by        |                                                   |
 * | 1. the head of the ref, by `git ls-remote`         | the one that is there                             |
 * | 2. `before` and `after`, over pushes in between    | the one that began where the other had ended      |
 * | 3. ancestry                                        | the one whose history contains the other          |
 * | 4. nothing                                         | the one that arrived later; never one that was    |
 * |                                                    | known before with the same before and after       |
 *
 * A request through the API takes the time of the newest push known when it arrived, and is always in doubt with pushes
 * of its ref. A force push back to an earlier commit differs from the first push of that commit in its `before` or its
 * second, and so is not taken for a replay.
 */

/** What matters of an accepted request for its place among others. */
export interface Push {
  /** Its position in the order of arrival. */
  sequence: number
  repository: string
  /** Null if only a sha was requested. */
  ref: Ref | null
  /** Null if it is no longer known. */
  sha: string | null
  before: string | null
  after: string | null
  /** Seconds since 1970; for an API request, that of the newest push known when it arrived. */
  pushedAt: number | null
  /** Whether these values come from a signed push. */
  signed: boolean
  /** An identical push was already known: this may be a replay, or a push there and back again. */
  again: boolean
}

export type Verdict = 'newer' | 'older' | 'doubt'

/** Compares two pushes by their own data. */
export function compare(candidate: Push, recorded: Push): Verdict {
  if (candidate.sequence === recorded.sequence) return 'newer'
  const sameRef = isSameRef(candidate.ref, recorded.ref)
  const apart = difference(candidate, recorded)
  if (apart !== 0 && (!sameRef || (candidate.signed && recorded.signed))) return apart > 0 ? 'newer' : 'older'
  if (sameRef) return 'doubt'
  return candidate.sequence > recorded.sequence ? 'newer' : 'older'
}

/** Compares by `before` and `after`: whether they lead from one push to the other, but not back. */
export function compareByChain(candidate: Push, recorded: Push, others: Push[]): Verdict {
  const forth = leads(recorded.after, candidate.before, others)
  const back = leads(candidate.after, recorded.before, others)
  if (forth === back) return 'doubt'
  return forth ? 'newer' : 'older'
}

/** The last resort, which always decides. */
export function compareByArrival(candidate: Push, recorded: Push): Exclude<Verdict, 'doubt'> {
  if (candidate.again) return 'older'
  const apart = difference(candidate, recorded)
  return (apart === 0 ? candidate.sequence > recorded.sequence : apart > 0) ? 'newer' : 'older'
}

/** Whether a chain of pushes, possibly empty, leads from one state of a ref to another. */
export function leads(from: string | null, to: string | null, pushes: Push[]): boolean {
  if (from === null || to === null) return false
  const next = Map.groupBy(pushes, ({ before }) => before)
  const reached = new Set([from])
  for (const at of reached) {
    if (at === to) return true
    for (const { after } of next.get(at) ?? []) if (after !== null) reached.add(after)
  }
  return false
}

function isSameRef(one: Ref | null, other: Ref | null): boolean {
  return one !== null && one.kind === other?.kind && one.name === other.name
}

/** Seconds from `recorded` to `candidate`; 0 if unknown. */
function difference(candidate: Push, recorded: Push): number {
  if (candidate.pushedAt === null || recorded.pushedAt === null) return 0
  return candidate.pushedAt - recorded.pushedAt
}
