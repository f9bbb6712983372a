import type { BuildRequest, PushFacts, Ref } from '../core/build.ts'
import type { PullRequest } from '../core/pull-request.ts'

/** GitHub's four states of a commit status: `failure` is a failed build, `error` a failure of Conveyor or its environment. */
type StatusState = 'pending' | 'success' | 'failure' | 'error'

export interface CommitStatus {
  repository: string
  sha: string
  state: StatusState
  /** The adapter truncates it to the forge's limit (140 characters on GitHub). */
  description: string
  /** URL of the build's log. */
  targetUrl: string
}

/** What a check run says when it has ended. */
type CheckConclusion = 'success' | 'failure' | 'timed_out' | 'cancelled' | 'neutral'

/** A remark about lines of a file of the commit. */
export interface CheckAnnotation {
  /** Relative to the root of the repository. */
  path: string
  /** From 1. */
  startLine: number
  endLine: number
  level: 'warning' | 'failure'
  title: string
  /** Plain text, with line breaks. */
  message: string
}

/** A button of a check run. The forge reports a click with the identifier. */
export interface CheckAction {
  /** At most 20 characters, like the label. */
  identifier: string
  label: string
  /** At most 40 characters. */
  description: string
}

/** What a forge that has check runs shows about a build. */
export interface CheckRun {
  repository: string
  sha: string
  /** Tells the run of this build from the others of the commit, wherever they were made. */
  buildId: string
  status: 'queued' | 'in_progress' | 'completed'
  /** Null unless it is completed. */
  conclusion: CheckConclusion | null
  startedAt: string | null
  completedAt: string | null
  /** URL of the build's page. */
  detailsUrl: string
  /** Plain text. */
  title: string
  /** Markdown, and free of markup that the repository wrote. */
  summary: string
  /** As many as there are; the same and in the same order whenever the run is set with this status. */
  annotations: CheckAnnotation[]
  actions: CheckAction[]
}

/** What is known about the check run of a build at the forge: its id; or whether there may be one all the same. */
export type KnownCheckRun = { id: number } | { id: null; mayExist: boolean }

/** The code host: commit statuses, branch heads, single files. */
export interface Forge {
  /**
   * Sets a commit status with the configured context, and retries temporary failures. Archived repositories
   * accept none, which is not an error.
   * @throws ConveyorError `unavailable` (retryable later); if the forge refuses, `unauthorized`, `not_found` (also for
   * a commit that was pushed seconds ago) or `invalid`
   */
  setStatus(status: CommitStatus, signal?: AbortSignal): Promise<void>
  /**
   * Creates the check run of a build, or updates it, and retries temporary failures. Its name is the context of commit
   * statuses. Annotations that the run has already are not sent again.
   * @returns the id of the run; null if the forge accepts no check runs for this repository from whoever asks
   * @throws ConveyorError as setStatus; a run may have been created all the same
   */
  setCheckRun(run: CheckRun, known: KnownCheckRun, signal?: AbortSignal): Promise<number | null>
  /** The commit at the head of a branch. @throws ConveyorError `not_found`, `unauthorized`, `unavailable`. */
  branchHead(repository: string, branch: string): Promise<string>
  /** @throws ConveyorError as branchHead. */
  defaultBranch(repository: string): Promise<string>
  /** `owner/name` in the forge's spelling; its names are case-insensitive. Never retried. @throws as branchHead. */
  fullName(repository: string): Promise<string>
  /**
   * Whether the history of the commit `head` contains the commit `sha`; null if the forge does not know.
   * @throws ConveyorError as branchHead
   */
  contains(repository: string, head: string, sha: string, signal?: AbortSignal): Promise<boolean | null>
  /** A pull request as it is now. @throws ConveyorError as branchHead */
  pull(repository: string, number: number): Promise<PullRequest>
  /** What an account may do in a repository now. @throws ConveyorError as branchHead */
  permission(repository: string, login: string): Promise<ForgePermission>
  /** The whole message of a commit. Never retried. @throws ConveyorError as branchHead */
  message(repository: string, sha: string, signal?: AbortSignal): Promise<string>
  /**
   * The text of a file of a commit; null if the path is not a file, or larger than 1 MB, or if the forge cannot tell.
   * Never retried. @throws ConveyorError as branchHead, and `not_found` if the path does not exist.
   */
  file(repository: string, sha: string, path: string, signal: AbortSignal): Promise<string | null>
}

/** What an account may do in a repository. */
export type ForgePermission = 'admin' | 'write' | 'read' | 'none'

/**
 * What a webhook says, or that it is of no interest, with the reason (for the forge's delivery log). Each kind but the
 * last has a handler in server/webhook/handlers.
 */
export type Webhook =
  /** A commit was pushed. `message` is the whole message of the commit. */
  | { kind: 'build'; request: BuildRequest; message: string }
  /** A pull request has a new head (also by being opened), or was closed, merged or not. */
  | {
      kind: 'pull'
      action: 'moved' | 'closed'
      pull: PullRequest
      /** Orders the heads of the pull request. */
      push: PushFacts
      defaultBranch: string
      delivery: string
    }
  /** A merge queue waits for the commit of its branch. */
  | { kind: 'merge_group'; action: 'checks_requested'; request: BuildRequest; message: string }
  /** It does not wait any more. `reason` is `merged`, `invalidated`, or `dequeued`. */
  | {
      kind: 'merge_group'
      action: 'destroyed'
      repository: string
      sha: string
      ref: Ref
      reason: string
    }
  /** `login` wants the commit `sha`, full or at least seven digits of it, of a pull request to be built. */
  | { kind: 'command'; repository: string; pull: number; sha: string; login: string; delivery: string }
  | { kind: 'check'; request: CheckRequest }
  /** `quiet`: it happens all the time, and is not worth recording. */
  | { kind: 'ignored'; reason: string; quiet?: boolean }

/** What somebody who may write to the repository wants with a check run, or with all checks of a commit. */
export interface CheckRequest {
  repository: string
  sha: string
  /** The build of the check run; null for all checks of the commit. */
  buildId: string | null
  /** `rerun`, or the identifier of the button that was pressed, whatever that is. */
  action: 'rerun' | { button: string }
  /** The account at the forge. */
  by: string
  delivery: string
}

/** What a payload is about; null is what it does not say. */
export interface WebhookSubject {
  repository: string | null
  /** `refs/heads/main` */
  ref: string | null
  /** What the ref points to now; for an annotated tag, the id of the tag object. */
  sha: string | null
}

/** Parses the webhooks of a forge, without side effects: bytes and headers go in, values come out. */
export interface WebhookParser {
  /** Verifies the signature of a body that arrives in pieces. */
  signature(secret: string): WebhookSignature
  /** The payload of an event in a body. @throws ConveyorError `invalid` with the position of the error, without quoting the body */
  payload(event: string, contentType: string | undefined, body: Uint8Array): Promise<unknown>
  /** What a payload of any event is about, as far as it says so. */
  about(payload: unknown): WebhookSubject
  /** @throws ConveyorError `invalid` naming the field of the payload that is missing or invalid */
  parse(event: string, delivery: string, payload: unknown): Webhook
}

export interface WebhookSignature {
  update(piece: Uint8Array): void
  /**
   * Whether a header is the forge's signature of exactly the bytes so far. May be called only once. A missing or
   * malformed header is false; never throws for anything that the client sends.
   */
  matches(header: string | undefined): boolean
}
