import type { Ref } from '../../core/build.ts'
import type { RefPatterns, SupersedePolicy } from '../../core/settings.ts'
import { isMergeQueue } from '../../core/validate.ts'
import { compileGlob } from '../../util/glob/glob.ts'
import { skipInstruction } from './skip-instruction.ts'

/** The head of a branch, a git tag, or a pull request that might be built. */
interface CandidateHead {
  /** `owner/name` in any case. */
  repository: string
  ref: Ref
  /** The whole message of its commit; null if it is not known (yet). */
  message: string | null
}

/** What is built without anybody asking for it: pushes, and whatever else moves a branch or a git tag. */
export interface BuildPolicy {
  /** Why this head is not built, for people, on one line; null if it is. */
  whyNot(head: CandidateHead): string | null
  /** Which earlier builds of the same branch the build of a push cancels; null for none. */
  supersedes(ref: Ref, defaultBranch: string | null): Exclude<SupersedePolicy, 'off'> | null
}

/** @param patternsOf what is configured for a repository */
export function buildPolicy(
  patternsOf: (repository: string) => RefPatterns,
  supersede: SupersedePolicy,
): BuildPolicy {
  return {
    whyNot: ({ repository, ref, message }) => {
      const excluded = ref.kind === 'pull' ? null : whyExcluded(ref.kind, ref.name, patternsOf(repository))
      if (excluded) return excluded
      // GitHub waits for the result of a merge queue's commit, whatever its message says.
      const skip = message === null || isMergeQueue(ref) ? null : skipInstruction(message)
      return skip && `the commit's message says ${JSON.stringify(skip)}`
    },
    supersedes: (ref, defaultBranch) => {
      if (supersede === 'off' || ref.kind !== 'branch' || isMergeQueue(ref)) return null
      return defaultBranch === null || ref.name === defaultBranch ? null : supersede
    },
  }
}

function whyExcluded(kind: 'branch' | 'tag', name: string, { branches, tags }: RefPatterns): string | null {
  // A merge queue's branch is built if the branch that it merges into is.
  const base = mergeQueueBase({ kind, name })
  if (isIncluded(kind === 'branch' ? branches : tags, base ?? name)) return null
  const what = kind === 'branch' ? 'branch' : 'git tag'
  const via = base === null ? '' : ` (merge queue of ${JSON.stringify(base)})`
  return `${what} ${JSON.stringify(name)}${via} is excluded by --build.${kind === 'branch' ? 'branches' : 'tags'}`
}

/** `main` of `gh-readonly-queue/main/pr-7-SHA`; null for any other ref. */
function mergeQueueBase(ref: Ref): string | null {
  if (!isMergeQueue(ref)) return null
  return /^gh-readonly-queue\/(.+)\/[^/]+$/.exec(ref.name)?.[1] ?? null
}

/** Whether the patterns include a name. If the first one excludes, everything before it is included. */
function isIncluded(patterns: readonly string[], name: string): boolean {
  let included = patterns[0]?.startsWith('!') ?? true
  for (const pattern of patterns) {
    const excludes = pattern.startsWith('!')
    if (compileGlob(excludes ? pattern.slice(1) : pattern, false)?.matches(name)) included = !excludes
  }
  return included
}
