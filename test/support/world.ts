import { mkdtemp } from 'node:fs/promises'
import { type GitServer, startGitServer } from './git-server.ts'
import { type GitHubDouble, startGitHubDouble } from './github-double.ts'
import { engine } from './global-setup.ts'
import { type ConveyorServer, startConveyor } from './processes.ts'
import { type RegistryOptions, startRegistry, type TestRegistry } from './registry.ts'
import { tempDir } from './temp.ts'

export const WEBHOOK_SECRET = 'the-webhook-secret'
export const GITHUB_TOKEN = 'ghp_the-token-of-the-tests'

export interface WorldOptions {
  /** More flags for the server. */
  flags?: string[]
  env?: NodeJS.ProcessEnv
  registry?: RegistryOptions
}

/** A push, as the tests send it. */
export interface Push {
  repository: string
  sha: string
  /** Default `main`. */
  branch?: string
  tag?: string
  message?: string
  delivery?: string
}

/** What Conveyor lives among: a git server and GitHub's API in front of it, a registry, an engine. */
export interface World extends AsyncDisposable {
  git: GitServer
  github: GitHubDouble
  registry: TestRegistry
  dataDir: string
  /** Starts `conveyor server` on this world; again after a kill, on the same data. */
  startServer(): Promise<ConveyorServer>
  /** Sends a signed push webhook; resolves to the id of its build. */
  push(server: ConveyorServer, push: Push): Promise<string>
  /** What a tag of a repository points at, null when there is no such tag. */
  digest(repository: string, tag: string): Promise<string | null>
}

export async function startWorld(options: WorldOptions = {}): Promise<World> {
  await using resources = new AsyncDisposableStack()
  const data = resources.use(await tempDir('conveyor-data-'))
  const git = resources.use(await startGitServer({ token: GITHUB_TOKEN }))
  const github = resources.use(await startGitHubDouble({ token: GITHUB_TOKEN }))
  const registry = resources.use(await startRegistry(options.registry))
  const { dockerHost, network } = engine()
  const dataDir = await mkdtemp(`${data.path}/`)
  const owned = resources.move()

  const flags = [
    ...['--port', '0', '--host', '127.0.0.1', '--data-dir', dataDir, '--registry', registry.host],
    ...['--git.url', git.urlTemplate, '--github.url', github.url],
    ...(network ? ['--build.network', network] : []),
    ...(options.flags ?? []),
  ]
  const env = {
    DOCKER_HOST: dockerHost,
    DOCKER_CONFIG: dataDir,
    GITHUB_TOKEN,
    GITHUB_SECRET: WEBHOOK_SECRET,
    ...options.env,
  }
  return {
    git,
    github,
    registry,
    dataDir,
    startServer: () => startConveyor(['server', ...flags], { env }),
    async push(server, { branch = 'main', tag, ...push }) {
      const ref = tag ? `refs/tags/${tag}` : `refs/heads/${branch}`
      const answer = await github.sendPush({ url: server.url, secret: WEBHOOK_SECRET, ref, ...push })
      if (answer.status !== 202) throw new Error(`the push was answered ${answer.status}: ${answer.body}`)
      return (JSON.parse(answer.body) as { id: string }).id
    },
    async digest(repository, tag) {
      const answer = await fetch(`${registry.url}/v2/${repository}/manifests/${tag}`, {
        method: 'HEAD',
        headers: { accept: 'application/vnd.docker.distribution.manifest.v2+json' },
      })
      return answer.status === 404 ? null : answer.headers.get('docker-content-digest')
    },
    [Symbol.asyncDispose]: () => owned.disposeAsync(),
  }
}

/** The whole log of a build, once it has ended. */
export async function buildLog(server: ConveyorServer, id: string): Promise<string> {
  const answer = await fetch(`${server.url}/logs/${id}`)
  if (answer.status !== 200) throw new Error(`the log was answered ${answer.status}: ${await answer.text()}`)
  return (await answer.text()).replaceAll('\0', '')
}
