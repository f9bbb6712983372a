import type { PullRequest } from '../core/pull-request.ts'

/** The pull requests of all repositories, as far as webhooks have told of them. */
export interface PullRequests {
  /** Records a pull request as it is now. False if a later state is known already: only its head is recorded then. */
  put(pull: PullRequest): Promise<boolean>
  /** Null if no webhook has told of it. */
  get(repository: string, number: number): Promise<PullRequest | null>
  /** The open ones of a repository, the one that changed last first. */
  open(repository: string, limit: number): Promise<PullRequest[]>
  /** The open ones whose head is this commit, oldest first. */
  withHead(repository: string, sha: string): Promise<PullRequest[]>
  /** Those of forks whose head is this commit, or was before, open or not; oldest first. */
  ofForksWith(repository: string, sha: string): Promise<PullRequest[]>
  /** The commits beginning with these digits that are or were the head of a pull request; at most `limit`. */
  headsLike(repository: string, number: number, digits: string, limit: number): Promise<string[]>
  /** Closed ones whose tag may still be there, and for which nothing is being built; at most `limit`, oldest first. */
  uncleaned(limit: number): Promise<PullRequest[]>
  /** Records that nothing is left of a closed pull request, unless it has changed since, or something is being built for it. */
  markCleaned(pull: PullRequest): Promise<void>
}
