import { randomBytes } from 'node:crypto'
import { readdir, readFile, stat } from 'node:fs/promises'
import { join } from 'node:path'
import type Docker from 'dockerode'
import { docker, type Engine, startEngine } from '../support/engines/engine.ts'
import type { FileContent } from '../support/git/repository.ts'
import { type GitServer, startGitServer } from '../support/git/server.ts'
import { type GitHubDouble, startGitHubDouble } from '../support/github/double.ts'
import { ensureBaseImages, NODE_IMAGE } from '../support/images/base-images.ts'
import { type ConveyorServer, startConveyor } from '../support/processes.ts'
import { startRegistry, type TestRegistry } from '../support/registry/registry.ts'
import { tempDir } from '../support/temp.ts'
import * as show from './show.ts'

/** Conveyor and everything that it needs. All of it listens only on this machine. */
export interface Surroundings {
  engine: Engine
  docker: Docker
  registry: TestRegistry
  git: GitServer
  github: GitHubDouble
  server: ConveyorServer
  webhookSecret: string
}

/**
 * Starts everything on free ports, and prints the addresses.
 * @param resources stops everything again, including what was started before a failure or an abort of `stop`
 */
export async function startSurroundings(
  resources: AsyncDisposableStack,
  stop: AbortSignal,
): Promise<Surroundings> {
  const start = async <T extends AsyncDisposable>(starting: Promise<T>): Promise<T> => {
    const started = resources.use(await starting)
    stop.throwIfAborted()
    return started
  }
  const token = randomBytes(20).toString('hex')
  const webhookSecret = randomBytes(20).toString('hex')

  const engine = await start(startEngine())
  show.fact('engine', `${engine.dockerHost} (${engine.own ? 'private, just started' : 'already running'})`)
  await ensureBaseImages(docker(engine))
  show.fact('base', `${NODE_IMAGE} (assembled from files of this machine, no download)`)
  const registry = await start(startRegistry())
  show.fact('registry', registry.url)
  resources.defer(() => removeImages(docker(engine), registry.host))
  const git = await start(startGitServer({ token }))
  show.fact('git', git.url)
  const github = await start(startGitHubDouble({ token }))
  github.serveFiles(git.fileOf)
  show.fact(
    'GitHub',
    `${github.url} (a test double of its API that checks requests against GitHub's OpenAPI description)`,
  )
  const data = await start(tempDir('conveyor-demo-'))

  const flags = [
    ...['--host', '127.0.0.1', '--port', '0', '--data-dir', data.path],
    ...['--git.url', git.urlTemplate, '--github.url', github.url, '--registry', registry.host],
    ...(engine.network ? ['--build.network', engine.network] : []),
  ]
  const env = {
    DOCKER_HOST: engine.dockerHost,
    DOCKER_CONFIG: data.path, // without your own logins
    GITHUB_TOKEN: token,
    GITHUB_SECRET: webhookSecret,
  }
  const server = await start(startConveyor(['server', ...flags], { env }))
  show.fact('conveyor', `${server.url} (conveyor server)`)
  return { engine, docker: docker(engine), registry, git, github, server, webhookSecret }
}

/** The files of the application. A different version in each run keeps layers of earlier runs from being reused. */
export async function applicationFiles(): Promise<Record<string, FileContent>> {
  const root = join(import.meta.dirname, 'app')
  const files: Record<string, FileContent> = {}
  for (const path of await readdir(root, { recursive: true })) {
    const file = join(root, path)
    if ((await stat(file)).isFile()) files[path] = await readFile(file, 'utf8')
  }
  const version = `1.0.${Date.now()}`
  files['package.json'] = String(files['package.json']).replace('"1.0.0"', `"${version}"`)
  return files
}

/** Removes the images that were built for a registry from the engine. */
async function removeImages(client: Docker, registryHost: string): Promise<void> {
  const images = await client.listImages({ filters: { reference: [`${registryHost}/*/*`] } })
  for (const name of images.flatMap(({ RepoTags }) => RepoTags ?? [])) {
    await client.getImage(name).remove({ force: true })
  }
}
