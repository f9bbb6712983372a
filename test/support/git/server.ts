import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { createServer, type IncomingMessage, type ServerResponse } from 'node:http'
import type { AddressInfo } from 'node:net'
import { join } from 'node:path'
import { pipeline } from 'node:stream/promises'
import { tempDir } from '../temp.ts'
import { type LfsDouble, startLfsDouble } from './lfs.ts'
import {
  compare,
  createGitRepository,
  fileOf,
  type GitRepository,
  gitEnv,
  messageOf,
  treeOf,
} from './repository.ts'

/** `/owner/name.git/...`: no part can be `..`, so nothing leads out of the root folder. */
const GIT_PATH = /^\/\w[\w-]*\/[\w.-]+\.git(\/\w[\w.-]*)+(\?|$)/

/** A request to the server, with the traffic so far. */
interface GitRequest {
  method: string
  /** Path and query. */
  url: string
  /** The login, `user:password`; null without one. */
  login: string | null
  /** 0 until it is answered. */
  status: number
  bytesReceived: number
  bytesSent: number
  /** What git wrote to stderr. */
  stderr: string
}

/** A real git server: Node's HTTP in front of `git http-backend`, protocol v2 and pushes included. */
export interface GitServer extends AsyncDisposable {
  /** `http://127.0.0.1:PORT` */
  readonly url: string
  /** The same, in the form of `--git.url`. */
  readonly urlTemplate: string
  /** Its Git LFS: objects are not pushed to it, but put there. */
  readonly lfs: LfsDouble
  /** Every request since the start, oldest first. Clear it (`length = 0`) to count again. */
  readonly requests: GitRequest[]
  /** Creates an empty repository, served at `url/owner/name.git`. */
  create(repository: string): Promise<GitRepository>
  /** Id of a commit's tree, as in GitHub's webhooks; undefined if there is no such commit. */
  treeOf(repository: string, sha: string): Promise<string | undefined>
  /** Text of a file of a commit, as GitHub's API returns it; null if there is none. */
  fileOf(repository: string, sha: string, path: string): Promise<string | null>
  /** The whole message of a commit, as GitHub's API returns it; null if there is no such commit. */
  messageOf(repository: string, sha: string): Promise<string | null>
  /** How a commit relates to another one, as GitHub's API returns it; null if one of them does not exist. */
  compare(repository: string, base: string, head: string): ReturnType<typeof compare>
  /** Redirects requests for a repository to another URL plus `.git`. */
  move(repository: string, to: string): void
  /** Answers the next `n` requests with this status instead. */
  failNext(n: number, status: number): void
  /** Holds requests from now on; `arrived` resolves with the first one, `release` lets all continue. */
  hold(): { arrived: Promise<void>; release(): void }
  /** Lets answers stop in the middle, after so many bytes, until `release` lets all continue. */
  stall(bytes: number): { release(): void }
}

/** Where answers stop, and until when. */
interface Stall {
  after: number
  over: Promise<void>
}

/**
 * Starts the server with no repositories.
 * @param options `token`: require Basic auth with this password and any user name, as GitHub does; or with one that
 * may read the repository, empty without a login
 */
export async function startGitServer(
  options: { token?: string | ((password: string, repository: string) => boolean) } = {},
): Promise<GitServer> {
  const root = await tempDir('conveyor-git-')
  const lfs = await startLfsDouble()
  const requests: GitRequest[] = []
  const failures: number[] = []
  const moved = new Map<string, string>()
  let held: Promise<void> = Promise.resolve()
  let onArrival = () => {}
  let stall: Stall = { after: Number.POSITIVE_INFINITY, over: Promise.resolve() }
  const handled = new Set<Promise<void>>()

  const server = createServer((request, response) => {
    const done = handle(request, response).catch((error: Error) => void response.destroy(error))
    handled.add(done)
    void done.then(() => handled.delete(done))
  })

  async function handle(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const entry = record(request, response)
    requests.push(entry)
    onArrival()
    await Promise.race([held, once(response, 'close')])
    if (response.destroyed) return
    const failure = failures.shift()
    if (failure !== undefined) return answer(response, failure)
    const [, name = '', rest = ''] = /^\/(.*?)\.git(\/.*)$/.exec(entry.url) ?? []
    if (!isAccepted(entry.login?.replace(/^.*?:/, ''), name)) {
      return answer(response, 401, { 'WWW-Authenticate': 'Basic realm="conveyor-test"' })
    }
    const there = moved.get(name)
    if (there) return answer(response, 301, { Location: `${there}.git${rest}` })
    if (rest.startsWith('/info/lfs/'))
      return lfs.handle(name, rest.slice('/info/lfs'.length), request, response)
    if (!GIT_PATH.test(entry.url)) return answer(response, 404)
    await httpBackend(root.path, entry, request, response, () => stall)
  }

  function isAccepted(password: string | undefined, repository: string): boolean {
    const { token } = options
    if (typeof token !== 'function') return token === undefined || password === token
    return token(password ?? '', repository)
  }

  await once(server.listen(0, '127.0.0.1'), 'listening')
  const url = `http://127.0.0.1:${(server.address() as AddressInfo).port}`

  return {
    url,
    urlTemplate: `${url}/{repository}.git`,
    lfs,
    requests,
    create: (repository) =>
      createGitRepository(join(root.path, `${repository}.git`), `${url}/${repository}.git`),
    treeOf: (repository, sha) => treeOf(join(root.path, `${repository}.git`), sha),
    fileOf: (repository, ...file) => fileOf(join(root.path, `${repository}.git`), ...file),
    messageOf: (repository, sha) => messageOf(join(root.path, `${repository}.git`), sha),
    compare: (repository, ...commits) => compare(join(root.path, `${repository}.git`), ...commits),
    move: (repository, to) => void moved.set(repository, to),
    failNext(n, status) {
      failures.push(...Array<number>(n).fill(status))
    },
    hold() {
      const arrival = Promise.withResolvers<void>()
      const gate = Promise.withResolvers<void>()
      onArrival = arrival.resolve
      held = gate.promise
      return { arrived: arrival.promise, release: gate.resolve }
    },
    stall(bytes) {
      const gate = Promise.withResolvers<void>()
      stall = { after: bytes, over: gate.promise }
      return { release: gate.resolve }
    },
    async [Symbol.asyncDispose]() {
      server.closeAllConnections()
      server.close()
      await Promise.all(handled)
      await root[Symbol.asyncDispose]()
      await lfs[Symbol.asyncDispose]()
    },
  }
}

function loginOf(request: IncomingMessage): string | null {
  const encoded = /^Basic (.+)$/i.exec(request.headers.authorization ?? '')?.[1]
  return encoded === undefined ? null : Buffer.from(encoded, 'base64').toString()
}

function record(request: IncomingMessage, response: ServerResponse): GitRequest {
  const entry = {
    method: request.method ?? '',
    url: request.url ?? '',
    login: loginOf(request),
    status: 0,
    bytesReceived: 0,
    bytesSent: 0,
    stderr: '',
  }
  response.once('close', () => {
    entry.status = response.statusCode
  })
  return entry
}

function answer(response: ServerResponse, status: number, headers: Record<string, string> = {}): void {
  response.writeHead(status, { 'Content-Type': 'text/plain', ...headers }).end(`status ${status}\n`)
}

/** Runs `git http-backend` through CGI (RFC 3875); bodies are streamed both ways. */
async function httpBackend(
  root: string,
  entry: GitRequest,
  request: IncomingMessage,
  response: ServerResponse,
  stall: () => Stall,
): Promise<void> {
  const [path, query = ''] = entry.url.split('?')
  const header = (name: string) => request.headers[name]?.toString() ?? ''
  const backend = spawn('git', ['http-backend'], {
    env: {
      ...gitEnv(),
      GIT_PROJECT_ROOT: root,
      GIT_HTTP_EXPORT_ALL: '1',
      GATEWAY_INTERFACE: 'CGI/1.1',
      REQUEST_METHOD: entry.method,
      PATH_INFO: path,
      QUERY_STRING: query,
      REMOTE_ADDR: '127.0.0.1',
      CONTENT_TYPE: header('content-type'),
      HTTP_CONTENT_ENCODING: header('content-encoding'), // it unpacks gzip by itself
      GIT_PROTOCOL: header('git-protocol'),
      // A chunked body has no length, and is read completely.
      ...(request.headers['content-length'] && { CONTENT_LENGTH: header('content-length') }),
    },
  })
  backend.stderr.setEncoding('utf8').on('data', (text: string) => {
    entry.stderr += text
  })
  const ended = once(backend, 'close')
  const gone = new Promise((resolve) => response.once('close', resolve))
  response.once('close', () => backend.kill())

  async function* received(): AsyncGenerator<Uint8Array> {
    for await (const chunk of request as AsyncIterable<Buffer>) {
      entry.bytesReceived += chunk.length
      yield chunk
    }
  }
  async function* sent(): AsyncGenerator<Uint8Array> {
    let head: Buffer | null = Buffer.alloc(0)
    for await (const chunk of backend.stdout as AsyncIterable<Buffer>) {
      let body = chunk
      if (head) {
        head = Buffer.concat([head, chunk])
        const end = head.indexOf('\r\n\r\n')
        if (end < 0) continue
        response.writeHead(...parseHead(head.toString('latin1', 0, end)))
        body = head.subarray(end + 4)
        head = null
      }
      entry.bytesSent += body.length
      yield body
      if (entry.bytesSent > stall().after) await Promise.race([stall().over, gone])
    }
    if (head) throw new Error(`git http-backend sent no response: ${entry.stderr}`)
  }
  // A backend may exit without reading the whole body.
  const input = pipeline(received, backend.stdin).catch(() => {})
  try {
    await pipeline(sent, response)
  } finally {
    await Promise.all([input, ended])
  }
}

function parseHead(text: string): [number, Record<string, string>] {
  const headers: Record<string, string> = {}
  for (const line of text.split('\r\n')) {
    const colon = line.indexOf(':')
    headers[line.slice(0, colon)] = line.slice(colon + 1).trim()
  }
  const { Status = '200', ...rest } = headers
  return [Number.parseInt(Status, 10), rest]
}
