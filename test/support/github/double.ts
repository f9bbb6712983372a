import { createServer } from 'node:http'
import type { AddressInfo } from 'node:net'
import { PATIENCE_MS } from '../timing/patience.ts'
import { isOfApp, TestApps } from './apps/apps.ts'
import { ManifestsDouble } from './apps/manifests.ts'
import { TestUsers } from './apps/users.ts'
import { CheckRunsDouble } from './checks.ts'
import { HooksDouble } from './hooks.ts'
import { type Limits, RATE, RateLimits } from './limits.ts'
import {
  type Answer,
  checkAnswer,
  denial,
  type FailureDetails,
  type FailureKind,
  invalid,
  problem,
  problemsBeyondSchema,
  problemsOfHeaders,
  type RecordedRequest,
  receive,
  respond,
} from './protocol.ts'
import { PullsDouble } from './pulls.ts'
import { sendPush } from './push.ts'
import { githubSchema, type Operation } from './schema.ts'
import type { Comparer, FileReader, Repository, Serve } from './serve.ts'
import { Watchers } from './watchers.ts'

/**
 * The part of GitHub's API that Conveyor uses, over real HTTP. Every request and every response is checked against
 * GitHub's published description.
 */

export interface RecordedStatus {
  repository: string
  sha: string
  state: string
  context: string
  description: string | null
  target_url: string | null
  /** Time of arrival, in milliseconds since 1970. */
  at: number
}

export interface GitHubDoubleOptions {
  /** The only token that is accepted. Without it, no token is required. */
  token?: string
  /** Scopes of the token, as of a classic one. Default: `repo, workflow`. */
  scopes?: string
  /** `/api/v3` for GitHub Enterprise. */
  basePath?: string
  port?: number
}

export interface GitHubDouble extends AsyncDisposable {
  /** The base URL of the API. */
  readonly url: string
  /** Every status that was set, oldest first. Statuses of any repository are accepted. */
  readonly statuses: RecordedStatus[]
  /** Check runs of any repository, which only tokens of installations (`ghs_`) may write. */
  readonly checks: CheckRunsDouble
  readonly hooks: HooksDouble
  readonly manifests: ManifestsDouble
  /** GitHub Apps; without any, `token` is the only one that is accepted. */
  readonly apps: TestApps
  /** Pull requests, and who may write. */
  readonly pulls: PullsDouble
  /** People who can sign in to Apps. */
  readonly users: TestUsers
  readonly requests: RecordedRequest[]
  /** Problems of requests, or of the double's own responses: a test expects none. */
  readonly violations: string[]
  /** Creates the branch, and the repository if needed. The first branch becomes the default branch. */
  setHead(repository: string, branch: string, sha: string): void
  /** Null if there is no such branch. */
  headOf(repository: string, branch: string): string | null
  /** Creates the repository if needed. One without branches is empty. */
  setDefaultBranch(repository: string, branch: string): void
  /** Archives a repository or restores it; creates it if needed. */
  archive(repository: string, archived?: boolean): void
  /** Makes a repository private: it does not exist for those without access. Creates it if needed. */
  hide(repository: string): void
  /** Limits requests from now on; null ends that. */
  limit(limits: Limits | null): void
  /** Where the files of commits come from; until this is called, there are none. */
  serveFiles(read: FileReader): void
  /** How commits are compared; until this is called, none is known. */
  serveComparisons(compare: Comparer): void
  /** The next `count` requests fail, after failures that were planned before. Reads of files do not count. */
  failNext(count: number, kind: FailureKind, details?: FailureDetails): void
  /** The next `count` requests that change something are carried out, but their connections are reset instead of an answer. */
  loseAnswers(count: number): void
  /** Every request fails until this is called with null. */
  failAlways(kind: FailureKind | null, details?: FailureDetails): void
  /** The first status that fits, of those already set or set later. */
  waitForStatus(fits: (status: RecordedStatus) => boolean, timeoutMs?: number): Promise<RecordedStatus>
  sendPush: typeof sendPush
}

/** Maximum number of statuses per sha and context: https://docs.github.com/rest/commits/statuses */
const STATUS_LIMIT = 1000
export async function startGitHubDouble(options: GitHubDoubleOptions = {}): Promise<GitHubDouble> {
  const { token, basePath = '' } = options
  const schema = await githubSchema()
  const statuses: RecordedStatus[] = []
  const requests: RecordedRequest[] = []
  const violations: string[] = []
  const repositories = new Map<string, Repository>()
  const failures: Answer[] = []
  let failing: Answer | null = null
  let lost = 0
  const hidden = new Set<string>()
  const apps = new TestApps(hidden, violations)
  const manifests = new ManifestsDouble(apps, schema)
  const users = new TestUsers(apps, violations)
  const limits = new RateLimits(violations)
  let readFile: FileReader = async () => null
  let compareCommits: Comparer = async () => null
  const watchers = new Watchers()
  const hooks = new HooksDouble()
  const checks = new CheckRunsDouble(watchers)
  const pulls = new PullsDouble()

  // GitHub ignores the case of names.
  const repositoryOf = (name: string) => repositories.get(name.toLowerCase())
  const makeRepository = (name: string): Repository => {
    const repository = repositoryOf(name) ?? {
      name,
      defaultBranch: undefined,
      heads: new Map(),
      archived: false,
    }
    repositories.set(name.toLowerCase(), repository)
    return repository
  }

  const setStatus: Serve = ({ repository, params: { sha = '' } }, body, example) => {
    if (repositoryOf(repository)?.archived) return problem(403, 'Repository was archived so is read-only.')
    const {
      state,
      context = 'default',
      description = null,
      target_url = null,
    } = body as Partial<RecordedStatus>
    const same = statuses.filter((s) => s.sha === sha && s.context.toLowerCase() === context.toLowerCase())
    if (same.length >= STATUS_LIMIT) {
      return invalid('This SHA and context has reached the maximum number of statuses.')
    }
    statuses.push({ repository, sha, state: String(state), context, description, target_url, at: Date.now() })
    watchers.changed()
    const now = new Date().toISOString()
    const set = { state, context, description, target_url, created_at: now, updated_at: now }
    return { kind: 201, body: { ...example(201), id: statuses.length, ...set } }
  }

  const getRef: Serve = ({ repository, params: { ref = '' } }, _, example) => {
    const found = repositoryOf(repository)
    if (found?.heads.size === 0) return problem(409, 'Git Repository is empty.')
    const sha = found?.heads.get(ref.replace(/^heads\//, ''))
    if (sha === undefined || !ref.startsWith('heads/')) return problem(404, 'Not Found')
    const shown = example(200)
    return {
      kind: 200,
      body: { ...shown, ref: `refs/${ref}`, object: { ...(shown.object as object), type: 'commit', sha } },
    }
  }

  const getRepository: Serve = ({ repository }, _, example) => {
    const found = repositoryOf(repository)
    if (!found) return problem(404, 'Not Found')
    // The example contradicts the description of the same version: drop and add fields.
    const { source: _source, parent: _parent, ...shown } = example(200)
    const name = found.name.split('/')[1]
    const facts = { full_name: found.name, name, fork: false, archived: found.archived }
    const branch = { default_branch: found.defaultBranch ?? 'main' }
    return { kind: 200, body: { language: null, ...shown, ...facts, ...branch } }
  }

  const getRoot: Serve = (_about, _body, example) => ({ kind: 200, headers: RATE, body: example(200) })

  const getContent: Serve = async ({ repository, params: { path = '' }, query }, _, example) => {
    const text = await readFile(repository, query.get('ref') ?? '', path)
    if (text === null) return problem(404, 'Not Found')
    const content = Buffer.from(text).toString('base64').replace(/.{60}/g, '$&\n')
    const size = Buffer.byteLength(text)
    return { kind: 200, body: { ...example(200), type: 'file', encoding: 'base64', path, size, content } }
  }

  const compare: Serve = async ({ repository, params: { basehead = '' } }, _, example) => {
    const [base = '', head = ''] = basehead.split('...')
    const status = await compareCommits(repository, base, head)
    if (status === null) return problem(404, 'Not Found')
    return { kind: 200, body: { ...example(200), status, commits: [], files: [] } }
  }

  const contents = schema.operation('GET', '/repos/{owner}/{repo}/contents/{path}')
  const routes: [Operation, Serve][] = [
    ...users.routes(schema, options.scopes),
    ...apps.routes(schema, (name) => repositoryOf(name)?.name ?? null),
    [schema.operation('GET', '/'), getRoot],
    [contents, getContent],
    [schema.operation('GET', '/repos/{owner}/{repo}/compare/{basehead}'), compare],
    [schema.operation('POST', '/repos/{owner}/{repo}/statuses/{sha}'), setStatus],
    [schema.operation('GET', '/repos/{owner}/{repo}/git/ref/{ref}'), getRef],
    [schema.operation('GET', '/repos/{owner}/{repo}'), getRepository],
    ...checks.routes(schema),
    ...hooks.routes(schema),
    ...manifests.routes(),
    ...pulls.routes(schema),
  ]

  const answerTo = async (request: RecordedRequest): Promise<Answer> => {
    const url = new URL(request.path, 'http://github')
    const found = routes
      .filter(([operation]) => operation.method === request.method)
      .map(([operation, serve]) => ({ operation, serve, params: operation.match(url.pathname) }))
      .find(({ params }) => params !== null)
    const problems = problemsOfHeaders(request)
    if (!found?.params) problems.push('the double does not implement this operation')
    else {
      const { operation, params } = found
      problems.push(...operation.checkRequest({ params, query: url.searchParams, body: request.body }))
      problems.push(...problemsBeyondSchema(params, request.body))
    }
    violations.push(...problems.map((text) => `${request.method} ${request.path}: ${text}`))

    /** Everybody may read what is public. */
    const deniedToken = (request: RecordedRequest, repository: string) => {
      if (users.ofToken(request)) return null
      const denied = denial(request, token)
      if (denied) return denied
      const isHidden = request.headers.authorization === undefined && hidden.has(repository.toLowerCase())
      return isHidden ? problem(404, 'Not Found') : null
    }
    // Reads of files depend on the worker's mirror, so no test can plan their failures.
    const planned = failing ?? (found?.operation === contents ? undefined : failures.shift())
    if (planned) return planned
    const limited = limits.refuse(request)
    if (limited) return limited
    const name = `${found?.params?.owner}/${found?.params?.repo}`
    const denied = isOfApp(request, token)
      ? apps.denial(request, found?.operation, name)
      : deniedToken(request, name)
    if (denied) return denied
    if (!found?.params) return problem(404, 'Not Found')
    if (problems.length > 0) return invalid(problems.join('; '))
    const { operation, serve, params } = found
    const repository = `${params.owner}/${params.repo}`
    const isApp = /^token ghs_/i.test(request.headers.authorization ?? '')
    const about = { repository, params, query: url.searchParams, isApp, headers: request.headers }
    const answer = await serve(about, request.body, (status) => operation.example(status))
    const wrong = checkAnswer(schema, operation, answer)
    if (wrong.length === 0) return request.method !== 'GET' && lost-- > 0 ? { kind: 'reset' } : answer
    violations.push(
      ...wrong.map((text) => `the double's response to ${request.method} ${request.path}: ${text}`),
    )
    return problem(500, 'Server Error')
  }

  const server = createServer((incoming, response) => {
    if (incoming.url?.startsWith('/login/oauth/')) {
      users.serve(incoming, response).catch((error: Error) => void response.destroy(error))
      return
    }
    receive(incoming, basePath).then(
      async (request) => {
        requests.push(request)
        const answer = await answerTo(request)
        const date = new Date(apps.now()).toUTCString()
        respond(response, { ...answer, headers: { date, ...limits.headers(request), ...answer.headers } })
      },
      (error: unknown) => {
        violations.push(`${incoming.method} ${incoming.url}: ${String(error)}`)
        respond(response, problem(400, 'Problems parsing JSON'))
      },
    )
  })
  await new Promise<void>((resolve, reject) => {
    server.once('error', reject)
    server.listen(options.port ?? 0, '127.0.0.1', resolve)
  })

  return {
    url: `http://127.0.0.1:${(server.address() as AddressInfo).port}${basePath}`,
    statuses,
    checks,
    hooks,
    manifests,
    pulls,
    apps,
    users,
    requests,
    violations,
    setHead(name, branch, sha) {
      const repository = makeRepository(name)
      repository.defaultBranch ??= branch
      repository.heads.set(branch, sha)
    },
    headOf: (name, branch) => repositoryOf(name)?.heads.get(branch) ?? null,
    serveFiles(read) {
      readFile = read
    },
    serveComparisons(read) {
      compareCommits = read
    },
    setDefaultBranch(name, branch) {
      makeRepository(name).defaultBranch = branch
    },
    hide(name) {
      makeRepository(name)
      hidden.add(name.toLowerCase())
    },
    limit: (next) => limits.set(next),
    archive(name, archived = true) {
      makeRepository(name).archived = archived
    },
    failNext(count, kind, details = {}) {
      for (let i = 0; i < count; i++) failures.push({ kind, ...details })
    },
    loseAnswers(count) {
      lost = count
    },
    failAlways(kind, details = {}) {
      failing = kind === null ? null : { kind, ...details }
    },
    waitForStatus(fits, timeoutMs = PATIENCE_MS) {
      const shown = () =>
        statuses.map((s) => `${s.repository} ${s.sha.slice(0, 7)} ${s.state}: ${s.description}`)
      return watchers.waitFor('status', () => statuses.find(fits), shown, timeoutMs)
    },
    sendPush,
    async [Symbol.asyncDispose]() {
      await hooks.idle()
      const closed = new Promise((resolve) => server.close(resolve))
      server.closeAllConnections()
      await closed
    },
  }
}
