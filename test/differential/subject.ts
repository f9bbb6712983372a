import { join } from 'node:path'
import { pathToFileURL } from 'node:url'
import type { Build } from '../../src/lib/core/build.ts'
import { projectRoot } from '../support/processes.ts'
import { type Image, registryImage } from './image/image.ts'

/** The result of a build by Conveyor. */
export interface SubjectOutcome {
  /** Null if it failed. */
  image: Image | null
  /** The kind of failure, and the log; null if it succeeded. */
  failure: { kind: string; error: string } | null
  /** Whether an earlier image was reused and no step ran. */
  reused: boolean
  ms: number
}

/** Conveyor in this process, from the queue to the registry. */
export interface Subject extends AsyncDisposable {
  /** Builds a commit as if it had just been pushed to `main`. */
  build(repository: string, sha: string): Promise<SubjectOutcome>
}

export interface SubjectOptions {
  /** Folder for its data. */
  dir: string
  /** `repositories/{repository}.git` on this machine. */
  gitUrl: string
  /** `127.0.0.1:PORT` */
  registry: string
  /** Options of `conveyor server` that select the builder. */
  builder: Record<string, string>
  /** DOCKER_HOST of its engine, if it has one. */
  dockerHost: string | null
  /** The `src` folder to run; by default this project's own. */
  src?: string | undefined
  timeoutMs: number
}

type Setup = typeof import('../../src/lib/app/setup.ts')
type ConfigModule = typeof import('../../src/lib/config/config.ts')
type Work = typeof import('../../src/lib/pipeline/worker.ts')
type Request = typeof import('../../src/lib/pipeline/accept.ts')
type Lifecycle = typeof import('../../src/lib/util/lifecycle.ts')
type Statuses = typeof import('../../src/lib/pipeline/status-reporter.ts')
type Warm = typeof import('../../src/lib/pipeline/cache/warm.ts')

/** The parts of Conveyor that are used here, from one `src`. */
async function load(src: string) {
  const from = async <T>(file: string) => (await import(pathToFileURL(join(src, 'lib', file)).href)) as T
  const [setup, config, worker, request, lifecycle, statuses, warm] = await Promise.all([
    from<Setup>('app/setup.ts'),
    from<ConfigModule>('config/config.ts'),
    from<Work>('pipeline/worker.ts'),
    from<Request>('pipeline/accept.ts'),
    from<Lifecycle>('util/lifecycle.ts'),
    from<Statuses>('pipeline/status-reporter.ts'),
    from<Warm>('pipeline/cache/warm.ts'),
  ])
  return { ...setup, ...config, ...worker, ...request, ...lifecycle, ...statuses, ...warm }
}

export async function startSubject(options: SubjectOptions): Promise<Subject> {
  const conveyor = await load(options.src ?? join(projectRoot, 'src'))
  const problems: string[] = []
  const log = (line: string) => void problems.push(line)
  const releaser = new conveyor.Releaser(log)
  const adapters = await setUp(conveyor, options, log, releaser)
  const { queue, logs, parts } = adapters
  const { store } = parts

  const ended = new Map<string, (build: Build) => void>()
  const end = new AbortController()
  const working = conveyor.work(
    {
      ...adapters,
      timeoutMs: options.timeoutMs,
      retryDelays: [],
      warm: new conveyor.WarmRepositories(),
      statuses: new conveyor.StatusReporter({
        forge: { setStatus: async () => {} },
        store,
        buildUrl: () => '',
        log,
      }),
      onEnd: (build) => ended.get(build.id)?.(build),
      log,
    },
    1,
    { stop: end.signal, now: end.signal },
  )

  async function logOf(id: string): Promise<string> {
    let text = ''
    for await (const bytes of logs.read(id, { signal: end.signal })) text += Buffer.from(bytes).toString()
    return text
  }

  return {
    async build(repository, sha) {
      const from = performance.now()
      const { build } = await conveyor.requestBuild(
        {
          repository,
          sha,
          ref: { kind: 'branch', name: 'main' },
          defaultBranch: null,
          cache: true,
          source: { kind: 'cli' },
        },
        { store, queue, log },
      )
      const { errorKind, error } = await new Promise<Build>((resolve) => ended.set(build.id, resolve))
      ended.delete(build.id)
      const ms = performance.now() - from
      const text = await logOf(build.id)
      const reused = text.includes('nothing to build:')
      if (errorKind)
        return { image: null, failure: { kind: errorKind, error: `${error}\n${text}` }, reused, ms }
      const artifact = await store.artifactOf(build.id)
      if (!artifact) throw new Error(`no image of ${repository}@${sha}:\n${text}${problems.join('\n')}`)
      return { image: await registryImage(artifact.image), failure: null, reused, ms }
    },
    async [Symbol.asyncDispose]() {
      end.abort()
      await working
      await releaser[Symbol.asyncDispose]()
    },
  }
}

/** The parts of Conveyor, as `conveyor server` creates them from its options. */
async function setUp(
  conveyor: Awaited<ReturnType<typeof load>>,
  { dir, gitUrl, registry, builder, dockerHost }: SubjectOptions,
  log: (line: string) => void,
  releaser: InstanceType<Lifecycle['Releaser']>,
) {
  const config = conveyor.parseConfig({
    ...{ 'data-dir': dir, 'git.url': gitUrl, registry: `http://${registry}` },
    ...{ logger: `file://${join(dir, 'logs')}`, 'cache.export': 'none' },
    ...builder,
  })
  // The engine is where docker's own clients look for it.
  const before = process.env.DOCKER_HOST
  if (dockerHost) process.env.DOCKER_HOST = dockerHost
  try {
    const adapters = await conveyor.setUp(config, { stdout: process.stdout, log }, releaser)
    // No forge can provide the Dockerfile before the commit is fetched.
    return { ...adapters, parts: { ...adapters.parts, readFromForge: async () => null } }
  } finally {
    if (before === undefined) delete process.env.DOCKER_HOST
    else process.env.DOCKER_HOST = before
  }
}
