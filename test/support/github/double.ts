import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { text as textOf } from 'node:stream/consumers'
import { sendPush } from './push.ts'
import { type GitHubSchema, githubSchema, type Operation } from './schema.ts'

/**
 * GitHub's API over real HTTP, as far as Conveyor uses it. Every request and every answer is checked
 * against GitHub's published description, so what passes here has the form that GitHub takes.
 */

export interface RecordedStatus {
  repository: string
  sha: string
  state: string
  context: string
  description: string | null
  target_url: string | null
  /** When it came, in milliseconds since 1970. */
  at: number
}

interface RecordedRequest {
  method: string
  /** As it was sent, still encoded, without the base path. */
  path: string
  headers: IncomingMessage['headers']
  body: unknown
}

/** An HTTP status; or no answer at all: the request hangs, or its connection is cut. */
type FailureKind = number | 'hang' | 'reset'

export interface FailureDetails {
  headers?: Record<string, string>
  /** A string is sent as HTML, anything else as JSON. */
  body?: unknown
}

export interface GitHubDoubleOptions {
  /** The only token that is accepted. Without it, none is asked for. */
  token?: string
  /** Of the token, as a classic one has them. Default `repo, workflow`. */
  scopes?: string
  /** `/api/v3` makes it a GitHub Enterprise. */
  basePath?: string
  port?: number
}

export interface GitHubDouble extends AsyncDisposable {
  /** The base URL of the API. */
  readonly url: string
  /** Every status that was set, oldest first. Statuses of any repository are taken. */
  readonly statuses: RecordedStatus[]
  readonly requests: RecordedRequest[]
  /** What was wrong with requests (or with an answer of ours): a test expects none. */
  readonly violations: string[]
  /** Makes the branch, and the repository if need be. Its first branch is its default branch. */
  setHead(repository: string, branch: string, sha: string): void
  /** Null where there is no such branch. */
  headOf(repository: string, branch: string): string | null
  /** Makes the repository if need be: one without any branch is an empty one. */
  setDefaultBranch(repository: string, branch: string): void
  /** Makes a repository read-only, or no longer; and the repository if need be. */
  archive(repository: string, archived?: boolean): void
  /** Where the files of commits come from; none are there until this is called. */
  serveFiles(read: FileReader): void
  /** How commits are compared; none are known until this is called. */
  serveComparisons(compare: Comparer): void
  /** The next `count` requests fail, after failures that were asked for before; reading a file is none. */
  failNext(count: number, kind: FailureKind, details?: FailureDetails): void
  /** Every request fails until this is called with null. */
  failAlways(kind: FailureKind | null, details?: FailureDetails): void
  /** The first status that fits, of those set before or from now on. */
  waitForStatus(fits: (status: RecordedStatus) => boolean, timeoutMs?: number): Promise<RecordedStatus>
  sendPush: typeof sendPush
}

/** @returns the file's content, null when there is no such file */
type FileReader = (repository: string, sha: string, path: string) => Promise<string | null>

/** @returns how `head` is to `base`, null when there is no such commit */
type Comparer = (
  repository: string,
  base: string,
  head: string,
) => Promise<'ahead' | 'behind' | 'identical' | 'diverged' | null>

interface Repository {
  /** As it is spelled. */
  name: string
  defaultBranch: string | undefined
  heads: Map<string, string>
  archived: boolean
}

/** What goes back to the client; `kind` is not a number if nothing does. */
interface Answer extends FailureDetails {
  kind: FailureKind
}

/** At most so many statuses per sha and context: https://docs.github.com/rest/commits/statuses */
const STATUS_LIMIT = 1000
/** What is said of the rate limit where somebody asks who they are. */
const RATE = { 'x-ratelimit-limit': '5000', 'x-ratelimit-remaining': '4987' }
/** The only version that the description speaks of. */
const API_VERSION = '2022-11-28'

export async function startGitHubDouble(options: GitHubDoubleOptions = {}): Promise<GitHubDouble> {
  const { token, basePath = '' } = options
  const schema = await githubSchema()
  const statuses: RecordedStatus[] = []
  const requests: RecordedRequest[] = []
  const violations: string[] = []
  const repositories = new Map<string, Repository>()
  const failures: Answer[] = []
  let failing: Answer | null = null
  let readFile: FileReader = async () => null
  let compareCommits: Comparer = async () => null
  const watchers = new Set<() => void>()

  // GitHub does not mind the case of names.
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
    for (const look of watchers) look()
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
    // Of the example, what contradicts the description of the same version is left out or added.
    const { source: _source, parent: _parent, ...shown } = example(200)
    const name = found.name.split('/')[1]
    const facts = { full_name: found.name, name, fork: false, archived: found.archived }
    const branch = { default_branch: found.defaultBranch ?? 'main' }
    return { kind: 200, body: { language: null, ...shown, ...facts, ...branch } }
  }

  const getRoot: Serve = (_about, _body, example) => ({ kind: 200, headers: RATE, body: example(200) })

  const getUser: Serve = (_about, _body, example) => ({
    kind: 200,
    headers: { ...RATE, 'x-oauth-scopes': options.scopes ?? 'repo, workflow' },
    body: example(200),
  })

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
    [schema.operation('GET', '/'), getRoot],
    [schema.operation('GET', '/user'), getUser],
    [contents, getContent],
    [schema.operation('GET', '/repos/{owner}/{repo}/compare/{basehead}'), compare],
    [schema.operation('POST', '/repos/{owner}/{repo}/statuses/{sha}'), setStatus],
    [schema.operation('GET', '/repos/{owner}/{repo}/git/ref/{ref}'), getRef],
    [schema.operation('GET', '/repos/{owner}/{repo}'), getRepository],
  ]

  const answerTo = async (request: RecordedRequest): Promise<Answer> => {
    const url = new URL(request.path, 'http://github')
    const found = routes
      .filter(([operation]) => operation.method === request.method)
      .map(([operation, serve]) => ({ operation, serve, params: operation.match(url.pathname) }))
      .find(({ params }) => params !== null)
    const problems = problemsOfHeaders(request)
    if (!found?.params) problems.push('this double serves no such operation')
    else {
      const { operation, params } = found
      problems.push(...operation.checkRequest({ params, query: url.searchParams, body: request.body }))
      problems.push(...problemsBeyondSchema(params, request.body))
    }
    violations.push(...problems.map((text) => `${request.method} ${request.path}: ${text}`))

    // When that is read depends on what the worker has: no test plans for it.
    const planned = failing ?? (found?.operation === contents ? undefined : failures.shift())
    if (planned) return planned
    const refused = refusal(request, token)
    if (refused) return refused
    if (!found?.params) return problem(404, 'Not Found')
    if (problems.length > 0) return invalid(problems.join('; '))
    const { operation, serve, params } = found
    const repository = `${params.owner}/${params.repo}`
    const about = { repository, params, query: url.searchParams }
    const answer = await serve(about, request.body, (status) => operation.example(status))
    const wrong = checkAnswer(schema, operation, answer)
    if (wrong.length === 0) return answer
    violations.push(...wrong.map((text) => `our answer to ${request.method} ${request.path}: ${text}`))
    return problem(500, 'Server Error')
  }

  const server = createServer((incoming, response) => {
    receive(incoming, basePath).then(
      async (request) => {
        requests.push(request)
        respond(response, await answerTo(request))
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
    archive(name, archived = true) {
      makeRepository(name).archived = archived
    },
    failNext(count, kind, details = {}) {
      for (let i = 0; i < count; i++) failures.push({ kind, ...details })
    },
    failAlways(kind, details = {}) {
      failing = kind === null ? null : { kind, ...details }
    },
    waitForStatus(fits, timeoutMs = 60_000) {
      return new Promise((resolve, reject) => {
        const look = () => {
          const found = statuses.find(fits)
          if (found) finish(() => resolve(found))
        }
        const timer = setTimeout(() => {
          const seen = statuses.map(
            (s) => `${s.repository} ${s.sha.slice(0, 7)} ${s.state}: ${s.description}`,
          )
          const list = seen.join('; ') || 'none'
          finish(() => reject(new Error(`no such status within ${timeoutMs} ms; there were: ${list}`)))
        }, timeoutMs)
        const finish = (settle: () => void) => {
          clearTimeout(timer)
          watchers.delete(look)
          settle()
        }
        watchers.add(look)
        look()
      })
    },
    sendPush,
    async [Symbol.asyncDispose]() {
      const closed = new Promise((resolve) => server.close(resolve))
      server.closeAllConnections()
      await closed
    },
  }
}

/** Serves one operation: what it is asked about, the request's body, GitHub's example of an answer. */
type Serve = (
  about: { repository: string; params: Record<string, string>; query: URLSearchParams },
  body: unknown,
  example: (status: number) => Record<string, unknown>,
) => Answer | Promise<Answer>

async function receive(incoming: IncomingMessage, basePath: string): Promise<RecordedRequest> {
  const { method = '', url = '', headers } = incoming
  const content = await textOf(incoming)
  if (!url.startsWith(`${basePath}/`)) throw new Error(`not under ${basePath}`)
  const body: unknown = content === '' ? undefined : JSON.parse(content)
  return { method, path: url.slice(basePath.length), headers, body }
}

function respond(response: ServerResponse, { kind, headers, body }: Answer): void {
  if (kind === 'hang') return
  if (kind === 'reset') {
    response.socket?.resetAndDestroy()
    return
  }
  const html = typeof body === 'string'
  const standard = {
    'content-type': html ? 'text/html; charset=utf-8' : 'application/json; charset=utf-8',
    'x-github-media-type': 'github.v3; format=json',
    'x-github-request-id': 'C0DE:1:2:3:4',
  }
  response.writeHead(kind, { ...standard, ...headers })
  response.end(html ? body : JSON.stringify(body ?? problem(kind, 'Planned failure').body))
}

/** Rules that GitHub has for its headers, outside of the description of single operations. */
function problemsOfHeaders({ headers, body }: RecordedRequest): string[] {
  const problems: string[] = []
  if (!headers['user-agent']) problems.push('the header User-Agent is missing')
  if (!/json|\*\/\*/.test(headers.accept ?? '')) problems.push(`Accept is ${headers.accept}`)
  const { 'x-github-api-version': version = API_VERSION } = headers
  if (version !== API_VERSION) problems.push(`X-GitHub-Api-Version is ${version}`)
  if (body !== undefined && !headers['content-type']?.startsWith('application/json')) {
    problems.push(`Content-Type is ${headers['content-type']}`)
  }
  return problems
}

/** Limits that GitHub enforces, but that its description does not contain. */
function problemsBeyondSchema(params: Record<string, string>, body: unknown): string[] {
  const problems: string[] = []
  const { description, target_url } = (body ?? {}) as { description?: unknown; target_url?: unknown }
  if (typeof description === 'string' && [...description].length > 140) {
    problems.push('description is too long (maximum is 140 characters)')
  }
  if (typeof target_url === 'string' && !/^https?:\/\//.test(target_url)) {
    problems.push('target_url must use http(s) scheme')
  }
  if (params.sha !== undefined && !/^[0-9a-f]{40}$/.test(params.sha)) {
    problems.push(`No commit found for SHA: ${params.sha}`)
  }
  return problems
}

/** Who may do what: anyone may read (the repositories are public ones), the token's owner may write. */
function refusal({ method, headers }: RecordedRequest, token: string | undefined): Answer | null {
  if (token === undefined) return null
  const given = /^(?:token|bearer) (.+)$/i.exec(headers.authorization ?? '')?.[1]
  if (given === token) return null
  if (headers.authorization !== undefined) return problem(401, 'Bad credentials')
  return method === 'GET' ? null : problem(401, 'Requires authentication')
}

function checkAnswer(schema: GitHubSchema, operation: Operation, { kind, body }: Answer): string[] {
  if (typeof kind !== 'number') return []
  if (kind < 300) return operation.checkAnswer(kind, body)
  return schema.checkPayload(kind === 422 ? 'validation-error' : 'basic-error', body)
}

function problem(status: number, message: string): Answer & { kind: number } {
  const documentation_url = 'https://docs.github.com/rest'
  return { kind: status, body: { message, documentation_url, status: String(status) } }
}

function invalid(message: string): Answer {
  const { kind, body } = problem(422, 'Validation Failed')
  return { kind, body: { ...(body as object), errors: [{ resource: 'Status', code: 'custom', message }] } }
}
