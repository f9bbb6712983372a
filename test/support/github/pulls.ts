import { problem } from './protocol.ts'
import type { GitHubSchema, Operation } from './schema.ts'
import type { Serve } from './serve.ts'

/** Pull requests, and who may do what in a repository, as GitHub tells them. */

export interface TestPull {
  repository: string
  number: number
  sha: string
  /** Default `topic`. */
  branch?: string
  /** Default: the repository itself. Null: a fork that was deleted. */
  fork?: string | null
  title?: string
  author?: string
  /** Default `open`. */
  state?: 'open' | 'closed'
  /** Seconds since 1970. */
  updatedAt?: number
}

type Permission = 'admin' | 'write' | 'read' | 'none'
type Json = Record<string, unknown>

/** The example of GitHub's API, changed to these facts. */
export function changedPull(example: Json, pull: TestPull): Json {
  const { repository, number, sha, fork = repository, state = 'open', updatedAt = 1_800_000_000 } = pull
  const head = example.head as Json
  const repo = (fullName: string, of: Json) => ({
    ...(of.repo as Json),
    has_discussions: false,
    full_name: fullName,
    name: fullName.split('/')[1],
    fork: fullName !== repository,
  })
  return {
    ...example,
    ...{ number, state, title: pull.title ?? 'Change something' },
    updated_at: new Date(updatedAt * 1000).toISOString().replace('.000', ''),
    user: { ...(example.user as Json), login: pull.author ?? 'mallory' },
    head: { ...head, sha, ref: pull.branch ?? 'topic', repo: fork === null ? null : repo(fork, head) },
    base: { ...(example.base as Json), repo: repo(repository, example.base as Json) },
    auto_merge: null,
    requested_teams: [],
  }
}

export class PullsDouble {
  /** Where the messages of commits come from; until this is set, no commit is known. */
  messageOf: (repository: string, sha: string) => Promise<string | null> = async () => null
  readonly #pulls = new Map<string, TestPull>()
  readonly #permissions = new Map<string, Permission>()

  /** Opens or changes a pull request. */
  set(pull: TestPull): void {
    this.#pulls.set(`${pull.repository.toLowerCase()}#${pull.number}`, pull)
  }

  /** Gives an account a permission; those without one are unknown to GitHub. */
  permit(repository: string, login: string, permission: Permission): void {
    this.#permissions.set(`${repository}:${login}`.toLowerCase(), permission)
  }

  routes(schema: GitHubSchema): [Operation, Serve][] {
    const getPull: Serve = ({ repository, params }, _, example) => {
      const pull = this.#pulls.get(`${repository.toLowerCase()}#${params.pull_number}`)
      return pull ? { kind: 200, body: changedPull(example(200), pull) } : problem(404, 'Not Found')
    }
    const getPermission: Serve = ({ repository, params }, _, example) => {
      const permission = this.#permissions.get(`${repository}:${params.username}`.toLowerCase())
      if (permission === undefined) return problem(404, `${params.username} is not a user`)
      const shown = example(200)
      const user = { ...(shown.user as Json), login: params.username, role_name: permission }
      return { kind: 200, body: { ...shown, permission, role_name: permission, user } }
    }
    const getCommit: Serve = async ({ repository, params: { commit_sha = '' } }, _, example) => {
      const message = await this.messageOf(repository, commit_sha)
      if (message === null) return problem(404, 'Not Found')
      return { kind: 200, body: { ...example(200), sha: commit_sha, message } }
    }
    return [
      [schema.operation('GET', '/repos/{owner}/{repo}/pulls/{pull_number}'), getPull],
      [schema.operation('GET', '/repos/{owner}/{repo}/collaborators/{username}/permission'), getPermission],
      [schema.operation('GET', '/repos/{owner}/{repo}/git/commits/{commit_sha}'), getCommit],
    ]
  }
}
