import { mkdtemp } from 'node:fs/promises'
import type { BuildJson } from '../../src/lib/api/build.ts'
import { STILL_RUNNING } from '../../src/lib/server/formats.ts'
import { type GitServer, startGitServer } from './git/server.ts'
import type { TestApp } from './github/apps/apps.ts'
import { type GitHubDouble, type RecordedStatus, startGitHubDouble } from './github/double.ts'
import { engine } from './global-setup.ts'
import { MANIFEST_TYPES } from './images/pushed-image.ts'
import { type ConveyorServer, startConveyor } from './processes.ts'
import { type RegistryOptions, startRegistry, type TestRegistry } from './registry/registry.ts'
import { tempDir } from './temp.ts'

export const WEBHOOK_SECRET = 'the-webhook-secret'
export const GITHUB_TOKEN = 'ghp_the-token-of-the-tests'

export interface WorldOptions {
  /** More flags for the server. */
  flags?: string[]
  env?: NodeJS.ProcessEnv
  registry?: RegistryOptions
  /** Conveyor is a GitHub App, which tests install where they need it; the token is not accepted by git. */
  app?: boolean
}

/** A push, as the tests send it. */
export interface Push {
  repository: string
  sha: string
  /** Default `main`. */
  branch?: string
  tag?: string
  message?: string
  /** The tree of the commit in the webhook; by default the real one. */
  tree?: string
  delivery?: string
  /** What the ref pointed to before; nothing by default. */
  before?: string
  /** Seconds since 1970; one later for each push by default. */
  pushedAt?: number
  /** Default `main`. */
  defaultBranch?: string
}

/** The environment of Conveyor: a git server with GitHub's API, a registry, and an engine. */
export interface World extends AsyncDisposable {
  git: GitServer
  github: GitHubDouble
  registry: TestRegistry
  /** With `app`. */
  app: TestApp | null
  dataDir: string
  /** Conveyor's settings here, for any of its commands; flags take precedence. */
  env: NodeJS.ProcessEnv
  /** Starts `conveyor server` in this world; after a kill, on the same data. */
  startServer(more?: Pick<WorldOptions, 'flags' | 'env'>): Promise<ConveyorServer>
  /** Sends a signed push webhook; resolves to the id of its build. */
  push(server: ConveyorServer, push: Push): Promise<string>
  /** The digest that a tag of a repository points to; null if there is no such tag. */
  digest(repository: string, tag: string): Promise<string | null>
}

export async function startWorld(options: WorldOptions = {}): Promise<World> {
  await using resources = new AsyncDisposableStack()
  const data = resources.use(await tempDir('conveyor-data-'))
  const github = resources.use(
    await startGitHubDouble({ token: GITHUB_TOKEN, basePath: options.app ? '/api/v3' : '' }),
  )
  const app = options.app ? await github.apps.create() : null
  const token = app ? (...about: [string, string]) => github.apps.mayRead(...about) : GITHUB_TOKEN
  const git = resources.use(await startGitServer({ token }))
  github.serveFiles(git.fileOf)
  github.serveComparisons(git.compare)
  github.pulls.messageOf = git.messageOf
  const registry = resources.use(await startRegistry(options.registry))
  const { dockerHost, network } = engine()
  const dataDir = await mkdtemp(`${data.path}/`)
  const servers: ConveyorServer[] = []
  let pushedAt = Math.floor(Date.now() / 1000)
  const owned = resources.move()

  const env = {
    PORT: '0',
    HOST: '127.0.0.1',
    DATA_DIR: dataDir,
    REGISTRY: registry.host,
    GIT_URL: git.urlTemplate,
    GITHUB_URL: github.url,
    GITHUB_TOKEN,
    GITHUB_SECRET: WEBHOOK_SECRET,
    ...app?.env,
    DOCKER_HOST: dockerHost,
    DOCKER_CONFIG: dataDir,
    // It would access the git server at any time, while tests count its requests, and hold them.
    GIT_COMPARE: '0s',
    ...(network ? { BUILD_NETWORK: network } : {}),
    ...options.env,
  }
  return {
    git,
    github,
    registry,
    app,
    dataDir,
    env,
    async startServer(more = {}) {
      const args = ['server', ...(options.flags ?? []), ...(more.flags ?? [])]
      const server = await startConveyor(args, { env: { ...env, ...more.env } })
      servers.push(server)
      return server
    },
    async push(server, { branch = 'main', tag, ...push }) {
      const ref = tag ? `refs/tags/${tag}` : `refs/heads/${branch}`
      const tree = await git.treeOf(push.repository, push.sha)
      pushedAt += 1
      const facts = { url: server.url, secret: WEBHOOK_SECRET, ref, tree, pushedAt }
      const answer = await github.sendPush({ ...facts, ...push })
      if (answer.status !== 202) throw new Error(`the push was answered ${answer.status}: ${answer.body}`)
      return (JSON.parse(answer.body) as { id: string }).id
    },
    async digest(repository, tag) {
      const answer = await fetch(`${registry.url}/v2/${repository}/manifests/${tag}`, {
        method: 'HEAD',
        headers: { accept: MANIFEST_TYPES },
      })
      return answer.status === 404 ? null : answer.headers.get('docker-content-digest')
    },
    async [Symbol.asyncDispose]() {
      await Promise.all(servers.map((server) => server.kill()))
      await owned.disposeAsync()
      const problems = [...github.violations, ...servers.flatMap((server) => complaints(server.stderr()))]
      if (problems.length > 0) throw new Error(`not as it should be:\n${problems.join('\n')}`)
    },
  }
}

/** Output that no run may write to its own log: Node's warnings, and unexpected errors. */
export function complaints(stderr: string): string[] {
  return stderr.split('\n').filter((line) => /Warning:|\s+at \S.*:\d+:\d+|Unhandled|Uncaught/.test(line))
}

/** The result of a pushed build in the three places that show it. */
export interface Ending {
  status: RecordedStatus
  build: BuildJson
  log: string
}

/** Pushes a commit and waits until its final status is set. */
export async function pushToEnd(world: World, server: ConveyorServer, push: Push): Promise<Ending> {
  const id = await world.push(server, push)
  const isFinal = (status: RecordedStatus) => status.sha === push.sha && status.state !== 'pending'
  const status = await world.github.waitForStatus(isFinal)
  const build = (await (await fetch(`${server.url}/builds/${id}`)).json()) as BuildJson
  return { status, build, log: await buildLog(server, id) }
}

/** The whole log of a build, once it has ended. */
export async function buildLog(server: ConveyorServer, id: string): Promise<string> {
  const answer = await fetch(`${server.url}/logs/${id}`)
  if (answer.status !== 200) throw new Error(`the log was answered ${answer.status}: ${await answer.text()}`)
  return (await answer.text()).replaceAll(`${STILL_RUNNING}\n`, '')
}
