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

/** What Conveyor lives among, and Conveyor itself. Everything listens on this machine only. */
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
 * Starts all of it, on free ports, and shows where it is.
 * @param resources ends it again; it has what was started until then when this fails or `stop` is aborted
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
  show.fact('engine', `${engine.dockerHost} (${engine.own ? 'private, started now' : 'found here'})`)
  await ensureBaseImages(docker(engine))
  show.fact('base', `${NODE_IMAGE} (made of files of this machine: nothing is downloaded)`)
  const registry = await start(startRegistry())
  show.fact('registry', registry.url)
  resources.defer(() => removeImages(docker(engine), registry.host))
  const git = await start(startGitServer({ token }))
  show.fact('git', git.url)
  const github = await start(startGitHubDouble({ token }))
  github.serveFiles(git.fileOf)
  show.fact('GitHub', `${github.url} (its API as a double, which checks requests against GitHub's OpenAPI)`)
  const data = await start(tempDir('conveyor-demo-'))

  const flags = [
    ...['--host', '127.0.0.1', '--port', '0', '--data-dir', data.path],
    ...['--git.url', git.urlTemplate, '--github.url', github.url, '--registry', registry.host],
    ...(engine.network ? ['--build.network', engine.network] : []),
  ]
  const env = {
    DOCKER_HOST: engine.dockerHost,
    DOCKER_CONFIG: data.path, // no logins of the person who runs this
    GITHUB_TOKEN: token,
    GITHUB_SECRET: webhookSecret,
  }
  const server = await start(startConveyor(['server', ...flags], { env }))
  show.fact('conveyor', `${server.url} (conveyor server)`)
  return { engine, docker: docker(engine), registry, git, github, server, webhookSecret }
}

/** The files of the application. Its version is of this minute, so that no earlier run has left its layers. */
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

/** Removes from the engine what was built for a registry; the registry itself is gone by then. */
async function removeImages(client: Docker, registryHost: string): Promise<void> {
  const images = await client.listImages({ filters: { reference: [`${registryHost}/*/*`] } })
  for (const name of images.flatMap(({ RepoTags }) => RepoTags ?? [])) {
    await client.getImage(name).remove({ force: true })
  }
}
