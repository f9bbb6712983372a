import { repositoryKey } from './repository-key.ts'
/** A pull request, as its forge says. */
export interface PullRequest {
  /** `owner/name` of the repository that it is for. */
  repository: string
  number: number
  /** One line, at most 200 characters; anyone may have written it. */
  title: string
  /** The account of its author. */
  author: string
  open: boolean
  /** The commit that is to be merged, its branch, and its repository; null if that is gone. */
  head: { sha: string; branch: string; repository: string | null }
  /** When it last changed: ISO 8601 in UTC, to the second. */
  updatedAt: string
}

/** Whether its commits are in another repository, whose owner may not write to this one. */
export function isFromFork({ repository, head }: PullRequest): boolean {
  return repositoryKey(head.repository ?? '') !== repositoryKey(repository)
}

/** Where a build of somebody else's commit comes from, and who allowed it. Such a build gets nothing that is secret. */
export interface ForkOrigin {
  /** The number of the pull request. */
  pull: number
  /** `owner/name` of the fork; null if it is gone. */
  repository: string | null
  /** Who approved the commit, as the forge or the login names them. */
  approvedBy: string
}
