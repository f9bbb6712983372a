import type { Ref } from './build.ts'

/**
 * Which of two pushes is the newer one. Deliveries come in any order, late, and more than once; a docker tag
 * must end at what the ref points at, and never go back. C wants a tag that R has:
 *
 * | C and R                                            | newer is                                          |
 * |----------------------------------------------------|---------------------------------------------------|
 * | the same push                                      | C: it is tried again                              |
 * | both signed, pushed in different seconds           | the later one, by `repository.pushed_at`          |
 * | of two refs (`latest`), in different seconds       | the later one                                     |
 * | of two refs, in the same second or an unknown one  | the one that arrived later                        |
 * | of one ref, otherwise: doubt, which is settled by  |                                                   |
 * | 1. the head of the ref, by `git ls-remote`         | the one that is there                             |
 * | 2. `before` and `after`, over pushes in between    | the one that began where the other had ended      |
 * | 3. ancestry                                        | the one whose history contains the other          |
 * | 4. nothing                                         | the one that arrived later; never one that was    |
 * |                                                    | known before with the same before and after       |
 *
 * A request through the API counts as pushed when the newest push that was known then was, and is always in doubt
 * with pushes of its ref. A force push back to an earlier commit has another `before`, or another second, than
 * the first push of that commit, and so is no replay of it.
 */

/** An accepted request, as far as its place among others goes. */
export interface Push {
  /** Its place in the order of arrival. */
  sequence: number
  repository: string
  /** Null where only a sha was asked for. */
  ref: Ref | null
  /** Null where that is not known any more. */
  sha: string | null
  before: string | null
  after: string | null
  /** Seconds since 1970; of a request that is no push, of the newest push that was known then. */
  pushedAt: number | null
  /** Whether a signed push said so itself. */
  signed: boolean
  /** The same push, by all that it says of itself, was known: it may be a replay, or a push there and back. */
  again: boolean
}

export type Verdict = 'newer' | 'older' | 'doubt'

/** Whether `candidate` is newer than `recorded` by what is known of the two. */
export function compare(candidate: Push, recorded: Push): Verdict {
  if (candidate.sequence === recorded.sequence) return 'newer'
  const sameRef = isSameRef(candidate.ref, recorded.ref)
  const apart = difference(candidate, recorded)
  if (apart !== 0 && (!sameRef || (candidate.signed && recorded.signed))) return apart > 0 ? 'newer' : 'older'
  if (sameRef) return 'doubt'
  return candidate.sequence > recorded.sequence ? 'newer' : 'older'
}

/** What `before` and `after` say where they lead from one of the two to the other, and not back. */
export function compareByChain(candidate: Push, recorded: Push, others: Push[]): Verdict {
  const forth = leads(recorded.after, candidate.before, others)
  const back = leads(candidate.after, recorded.before, others)
  if (forth === back) return 'doubt'
  return forth ? 'newer' : 'older'
}

/** The end of every doubt. */
export function compareByArrival(candidate: Push, recorded: Push): Exclude<Verdict, 'doubt'> {
  if (candidate.again) return 'older'
  const apart = difference(candidate, recorded)
  return (apart === 0 ? candidate.sequence > recorded.sequence : apart > 0) ? 'newer' : 'older'
}

/** Whether pushes of a ref lead from one of its states to another, in no step or in many. */
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

/** Seconds from `recorded` to `candidate`; 0 also where that is not known. */
function difference(candidate: Push, recorded: Push): number {
  if (candidate.pushedAt === null || recorded.pushedAt === null) return 0
  return candidate.pushedAt - recorded.pushedAt
}
