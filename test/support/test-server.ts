import type { FastifyInstance } from 'fastify'
import type { Build } from '../../src/lib/core/build.ts'
import { github } from '../../src/lib/forge/github/github.ts'
import { githubWebhooks } from '../../src/lib/forge/github/webhook/webhook.ts'
import { fileLogStore } from '../../src/lib/logs/file.ts'
import type { LogStore } from '../../src/lib/logs/log-store.ts'
import { StatusReporter } from '../../src/lib/pipeline/status-reporter.ts'
import { memoryQueue } from '../../src/lib/queue/memory.ts'
import type { Queue } from '../../src/lib/queue/queue.ts'
import { tagForRef } from '../../src/lib/registry/naming.ts'
import type { GuardedRoute } from '../../src/lib/server/access/identity.ts'
import { createServer, type ServerOptions } from '../../src/lib/server/server.ts'
import type { History } from '../../src/lib/source/source.ts'
import type { BuildStore } from '../../src/lib/store/build-store.ts'
import { sqliteBuildStore } from '../../src/lib/store/sqlite/sqlite.ts'
import { type GitHubDouble, startGitHubDouble } from './github/double.ts'
import { AnswerCheck } from './openapi/answers.ts'
import { freePort } from './processes.ts'
import { tempDir } from './temp.ts'

export const IMAGE = `registry.example/acme/app@sha256:${'5'.repeat(64)}`

/**
 * The HTTP server on a real port with real stores. There is no worker: tests act as one. Disposing it fails if a response
 * was not as /openapi.json describes it.
 */
export interface TestServer extends AsyncDisposable {
  readonly url: string
  store: BuildStore
  queue: Queue
  logs: LogStore
  github: GitHubDouble
  /** The server's own log. */
  lines: string[]
  /** Sets what is called, and waited for, when the server begins to close. */
  onClosing(act: () => Promise<void>): void
  /** What the server's routes are. */
  routes(): readonly GuardedRoute[]
  /** How many logs are being read right now. */
  openReaders(): number
  /** A new request, claimed as if by a worker. */
  begin(sha: string, branch?: string): Promise<Build>
  succeed(build: Build): Promise<void>
  fail(build: Build, error: string): Promise<void>
  writeLog(build: Build, ...pieces: (string | Uint8Array)[]): Promise<void>
  endLog(build: Build): Promise<void>
  /** Closes the HTTP server, cutting all connections; the stores stay. */
  stop(): Promise<void>
  /** Opens it again on the same port. */
  start(): Promise<void>
}

/** @param now the clock of the store */
export async function startTestServer(
  options: Partial<ServerOptions> = {},
  now?: () => Date,
): Promise<TestServer> {
  const dir = await tempDir()
  const store = await sqliteBuildStore({ file: `${dir.path}/conveyor.db`, ...(now && { now }) })
  const files = fileLogStore({ dir: `${dir.path}/logs` })
  const queue = memoryQueue({})
  const double = await startGitHubDouble()
  const lines: string[] = []
  let readers = 0
  const logs: LogStore = {
    ...files,
    open: (id) => files.open(id),
    async *read(id, readOptions) {
      readers++
      try {
        yield* files.read(id, readOptions)
      } finally {
        readers--
      }
    },
    close: () => files.close(),
  }

  const forge = github({ baseUrl: double.url, retryDelaysMs: [] })
  /** The branches of the double, with only their heads. */
  const history: History = {
    async head(repository, ref) {
      const name = ref?.name ?? (await forge.defaultBranch(repository))
      const sha = ref?.kind === 'tag' ? null : double.headOf(repository, name)
      return sha === null ? null : { ref: { kind: 'branch', name }, sha }
    },
    contains: async () => false,
  }
  const log = (line: string) => void lines.push(line)
  const statuses = new StatusReporter({ forge, store, buildUrl: ({ id }) => `${url()}/builds/${id}`, log })
  let app: FastifyInstance | undefined
  let port = 0
  const violations: string[] = []
  let closing = async () => {}
  const url = () => `http://127.0.0.1:${port}`
  const start = async () => {
    app = await createServer({
      store,
      queue,
      logs,
      forge,
      webhooks: githubWebhooks,
      history,
      statuses,
      names: { tag: tagForRef },
      latest: 'always',
      githubSecret: null,
      auth: null,
      baseUrl: url,
      log: (line) => lines.push(line),
      version: '1.2.3',
      ...options,
    })
    app.addHook('preClose', () => closing())
    await app.ready()
    const check = new AnswerCheck(app.openapi(), options.baseUrl?.() ?? 'http://localhost', violations)
    check.watch(app.server)
    // Not one of those that outgoing connections get: it is still free when the server is opened again.
    port ||= await freePort()
    await app.listen({ host: '127.0.0.1', port })
  }
  const stop = async () => {
    await app?.close()
    app = undefined
  }
  await start()

  const finish = async (build: Build, result: Parameters<BuildStore['finish']>[3]) => {
    const seen = (await store.get(build.id))?.refs.length ?? 0
    const finished = await store.finish(build.id, build.attempt, seen, result)
    if (finished !== 'finished') throw new Error(`build ${build.id}: ${finished}`)
  }
  return {
    get url() {
      return url()
    },
    store,
    queue,
    logs,
    github: double,
    lines,
    onClosing: (act) => {
      closing = act
    },
    routes: () => app?.guarded ?? [],
    openReaders: () => readers,
    async begin(sha, branch) {
      const { build } = await store.accept({
        repository: 'acme/app',
        sha,
        ref: branch === undefined ? null : { kind: 'branch', name: branch },
        defaultBranch: null,
        cache: true,
        source: { kind: 'api' },
      })
      const claimed = await store.claim(build.id)
      if (!claimed) throw new Error('the build ended before it started')
      return claimed
    },
    succeed: (build) =>
      finish(build, { state: 'succeeded', image: IMAGE, tags: [`registry.example/acme/app:${build.sha}`] }),
    fail: (build, error) => finish(build, { state: 'failed', error, errorKind: 'build_failed' }),
    async writeLog(build, ...pieces) {
      const writer = await files.open(build.id)
      for (const piece of pieces) await writer.write(piece)
      await writer.close()
    },
    async endLog(build) {
      await (await files.open(build.id)).end()
    },
    stop,
    start,
    async [Symbol.asyncDispose]() {
      await stop()
      await statuses.idle()
      await queue.close()
      await files.close()
      await store.close()
      await double[Symbol.asyncDispose]()
      await dir[Symbol.asyncDispose]()
      if (violations.length > 0) throw new Error(`not as described:\n${violations.join('\n')}`)
    },
  }
}

export function sha(digit: string): string {
  return digit.repeat(40)
}

/** Waits until a condition holds, up to the time limit of the test. */
export async function until(isSo: () => boolean | Promise<boolean>): Promise<void> {
  while (!(await isSo())) await new Promise((resolve) => setTimeout(resolve, 10))
}
