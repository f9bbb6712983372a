/** GitHub's four states of a commit status: `failure` is a build that said no, `error` a broken part. */
type StatusState = 'pending' | 'success' | 'failure' | 'error'

export interface CommitStatus {
  repository: string
  sha: string
  state: StatusState
  /** Cut to the forge's limit (140 characters at GitHub) by the adapter. */
  description: string
  /** Where the build's log is. */
  targetUrl: string
}

/** The code host: commit statuses, branch heads, single files. (How its webhooks are read: see github-webhook.ts.) */
export interface Forge {
  /**
   * Sets a commit status under the context `container/docker`, retrying what a retry can help. Repositories that
   * are archived take none, which is no error.
   * @throws ConveyorError `unavailable` (retryable: worth another try later); when the forge refuses, `unauthorized`,
   * `not_found` (also of what was pushed seconds ago) or `invalid`.
   */
  setStatus(status: CommitStatus, signal?: AbortSignal): Promise<void>
  /** The commit at the head of a branch. @throws ConveyorError `not_found`, `unauthorized`, `unavailable`. */
  branchHead(repository: string, branch: string): Promise<string>
  /** @throws ConveyorError as branchHead. */
  defaultBranch(repository: string): Promise<string>
  /** `owner/name` as the forge spells it, whose names ignore case. Is tried only once. @throws as branchHead. */
  fullName(repository: string): Promise<string>
  /**
   * Whether the history of the commit `head` contains the commit `sha`; null when the forge cannot be asked.
   * @throws ConveyorError as branchHead
   */
  contains(repository: string, head: string, sha: string, signal?: AbortSignal): Promise<boolean | null>
  /**
   * The text of a file of a commit; null when it is none or is larger than 1 MB, or when the forge cannot be
   * asked. Is tried only once. @throws ConveyorError as branchHead, and `not_found` when there is no such file.
   */
  file(repository: string, sha: string, path: string, signal: AbortSignal): Promise<string | null>
}
