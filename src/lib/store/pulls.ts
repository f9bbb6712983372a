import type { PullRequest } from '../core/pulls/pull-request.ts'

/** The pull requests of all repositories, as far as webhooks have told of them. */
export interface PullRequests {
  /** Records a pull request as it is now. False if a later state is known already: nothing is recorded. */
  put(pull: PullRequest): Promise<boolean>
  /** Null if no webhook has told of it. */
  get(repository: string, number: number): Promise<PullRequest | null>
  /** The open ones of a repository, the one that changed last first. */
  open(repository: string, limit: number): Promise<PullRequest[]>
  /** The open ones whose head is this commit, oldest first. */
  withHead(repository: string, sha: string): Promise<PullRequest[]>
  /** Closed ones whose tag may still be there, and for which nothing is being built; at most `limit`, oldest first. */
  uncleaned(limit: number): Promise<PullRequest[]>
  /** Records that nothing is left of a closed pull request, unless it has changed since. */
  markCleaned(pull: PullRequest): Promise<void>
}
