import { mkdir } from 'node:fs/promises'
import type { PrivateEngine } from '../../test/support/engine.ts'
import { type ConveyorServer, startConveyor } from '../../test/support/processes.ts'
import { GITHUB_SECRET, GITHUB_TOKEN, type World } from './world.ts'

export interface ServerPlace {
  engine: PrivateEngine
  dataDir: string
  /** In front of image names in the registry. */
  prefix: string
  /** More flags. */
  flags?: string[]
}

/** Starts `conveyor server` as people run it, but for what has to point at the benchmark's world. */
export async function startServer(world: World, place: ServerPlace): Promise<ConveyorServer> {
  const { engine, dataDir, prefix, flags = [] } = place
  await mkdir(dataDir, { recursive: true })
  const network = engine.network === null ? [] : ['--build.network', engine.network]
  return startConveyor(
    [
      ...['server', '--port', '0', '--host', '127.0.0.1', '--data-dir', dataDir],
      ...['--registry', `${world.registry.host}/${prefix}`, '--git.url', world.git.urlTemplate],
      ...['--github.url', world.github.url, ...network, ...flags],
    ],
    { env: { DOCKER_HOST: engine.dockerHost, DOCKER_CONFIG: dataDir, GITHUB_TOKEN, GITHUB_SECRET } },
  )
}
