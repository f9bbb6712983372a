import { join } from 'node:path'
import { text } from 'node:stream/consumers'
import { type Build, type BuildRequest, isEnded } from '../../../src/lib/core/build.ts'
import { github } from '../../../src/lib/forge/github/github.ts'
import { fileLogStore } from '../../../src/lib/logs/file.ts'
import type { LogStore } from '../../../src/lib/logs/log-store.ts'
import { Redactor } from '../../../src/lib/logs/redact.ts'
import { requestBuild } from '../../../src/lib/pipeline/accept.ts'
import { WarmRepositories } from '../../../src/lib/pipeline/cache/warm.ts'
import type { BuildParts, SecretRedactor } from '../../../src/lib/pipeline/parts.ts'
import { StatusReporter } from '../../../src/lib/pipeline/status-reporter.ts'
import { work } from '../../../src/lib/pipeline/worker.ts'
import { memoryQueue } from '../../../src/lib/queue/memory.ts'
import type { Queue } from '../../../src/lib/queue/queue.ts'
import { tagForRef } from '../../../src/lib/registry/naming.ts'
import type { Registry } from '../../../src/lib/registry/registry.ts'
import type { RunInput, RunIo, Runner } from '../../../src/lib/runner/runner.ts'
import type { BuildStore } from '../../../src/lib/store/build-store.ts'
import { sqliteBuildStore } from '../../../src/lib/store/sqlite/sqlite.ts'
import { push } from '../../store/contract/subject.ts'
import { type GitHubDouble, startGitHubDouble } from '../../support/github/double.ts'
import { tempDir } from '../../support/temp.ts'
import { until } from '../../support/test-server.ts'
import { containerParts } from '../container-parts.ts'

const TOKEN = 'ghp_a-token'
const DIGEST = `sha256:${'5'.repeat(64)}`

/** The pipeline with real stores, and a builder that does what the test says. */
export interface Workshop extends AsyncDisposable {
  store: BuildStore
  queue: Queue
  logs: LogStore
  github: GitHubDouble
  statuses: StatusReporter
  /** The log of the process. */
  lines: string[]
  /** The tags that were moved. */
  tags: string[]
  /** What was built, in order. */
  built: string[]
  /** The containers of builds in the engine besides those that run here, by the id of the build and the attempt. */
  left: { buildId: string; attempt: number }[]
  /** What a build does from now on; nothing by default. */
  build: (input: RunInput, io: RunIo) => Promise<void>
  /** Reads a file from the forge, which knows nothing by default. */
  file: NonNullable<BuildParts['readFromForge']>
  /** Parts of cancelBuild and retryBuild. */
  control: {
    store: BuildStore
    queue: Queue
    logs: LogStore
    statuses: StatusReporter
    log: (line: string) => void
  }
  push(rest?: Partial<BuildRequest>): Promise<Build>
  /** Starts a worker. Resolves once it has stopped. */
  work(options?: WorkOptions): { stop(): Promise<void>; abort(): Promise<void> }
  ended(id: string): Promise<Build>
  log(id: string): Promise<string>
}

interface WorkOptions {
  concurrency?: number
  store?: BuildStore
  logs?: LogStore
  container?: Runner
  retryDelays?: number[]
  newRedactor?: () => SecretRedactor
}

export async function openWorkshop({ queue = memoryQueue() }: { queue?: Queue } = {}): Promise<Workshop> {
  await using resources = new AsyncDisposableStack()
  const { path } = resources.use(await tempDir('conveyor-workshop-'))
  const double = resources.use(await startGitHubDouble({ token: TOKEN }))
  const store = await sqliteBuildStore({ file: join(path, 'builds.db') })
  resources.defer(() => store.close())
  const logs = fileLogStore({ dir: join(path, 'logs') })
  resources.defer(() => logs.close())
  resources.defer(() => queue.close())
  const lines: string[] = []
  const log = (line: string) => void lines.push(line)
  const statuses = new StatusReporter({
    forge: github({ baseUrl: double.url, token: TOKEN, retryDelaysMs: [] }),
    store,
    buildUrl: ({ id }) => `https://conveyor.example.com/logs/${id}`,
    log,
  })
  resources.defer(() => statuses.idle())
  const tags: string[] = []
  const registry: Registry = {
    head: async (_name, reference) => (reference.startsWith('sha256:') ? null : DIGEST),
    manifest: async (_name, digest) => ({ digest, mediaType: 'application/json', bytes: new Uint8Array() }),
    putManifest: async (_name, tag) => void tags.push(tag),
    deleteTag: async () => false,
  }
  const working = new Set<Promise<void>>()
  const stops: AbortController[] = []
  const owned = resources.move()
  const workshop: Workshop = {
    ...{ store, queue, logs, github: double, statuses, lines, tags, built: [], left: [] },
    build: async () => {},
    file: async () => null,
    control: { store, queue, logs, statuses, log },
    async push(rest) {
      const { build } = await requestBuild(push('main', rest), { store, queue, log })
      return build
    },
    work({ concurrency = 1, store: own = store, container, retryDelays = [0], ...rest } = {}) {
      const [stop, now] = [new AbortController(), new AbortController()]
      const options = {
        ...{ queue, logs, statuses, log, retryDelays, timeoutMs: 60_000 },
        ...{
          parts: { ...partsWith(own), ...(container && { container }) },
          warm: new WarmRepositories(),
          newRedactor: () => new Redactor(),
        },
        ...rest,
      }
      const done = work(options, concurrency, { stop: stop.signal, now: now.signal })
      working.add(done)
      stops.push(stop, now)
      return {
        async stop() {
          stop.abort()
          await done
        },
        async abort() {
          stop.abort()
          now.abort()
          await done
        },
      }
    },
    async ended(id) {
      let build: Build | null = null
      await until(async () => {
        build = await store.get(id)
        return build !== null && isEnded(build.state)
      })
      if (!build) throw new Error('there is no such build')
      return build
    },
    log: (id) => text(logs.read(id)),
    async [Symbol.asyncDispose]() {
      for (const stop of stops) stop.abort()
      await Promise.all(working)
      await owned.disposeAsync()
    },
  }

  function partsWith(own: BuildStore): BuildParts {
    const parts = containerParts({
      store: own,
      registry,
      names: { image: (repository) => `registry.test/${repository}`, tag: tagForRef },
      container: {
        async run(input, io) {
          workshop.built.push(input.buildId)
          await workshop.build(input, io)
        },
        async containers(buildId) {
          const found = workshop.left.filter((one) => buildId === undefined || one.buildId === buildId)
          const remove = async (it: object) => {
            workshop.left = workshop.left.filter((one) => one !== it)
          }
          return found.map((one) => ({ ...one, remove: () => remove(one) }))
        },
      },
    })
    return { ...parts, readFromForge: (...args) => workshop.file(...args) }
  }
  return workshop
}

/** Builds until the signal is aborted, like an engine that stops a step. Resolves `running` when it does. */
export function endless(): { build: Workshop['build']; running: Promise<void>; stopped: Promise<unknown> } {
  const [running, stopped] = [Promise.withResolvers<void>(), Promise.withResolvers<unknown>()]
  return {
    running: running.promise,
    stopped: stopped.promise,
    async build(_input, { signal }) {
      running.resolve()
      await new Promise((resolve) => signal.addEventListener('abort', resolve, { once: true }))
      stopped.resolve(signal.reason)
      throw signal.reason
    },
  }
}
