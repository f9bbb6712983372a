import { mkdir } from 'node:fs/promises'
import type { PrivateEngine } from '../../test/support/engines/engine.ts'
import { type ConveyorServer, startConveyor } from '../../test/support/processes.ts'
import { GITHUB_SECRET, GITHUB_TOKEN, type World } from './world.ts'

export interface ServerPlace extends Settings {
  dataDir: string
  /** In front of image names in the registry. */
  prefix: string
}

/** What makes a server build in one place or another. */
export interface Settings {
  flags: string[]
  env?: NodeJS.ProcessEnv
}

/** Builds in a Docker Engine. */
export function inEngine({ dockerHost, network }: PrivateEngine, ...flags: string[]): Settings {
  return {
    flags: [...(network === null ? [] : ['--build.network', network]), ...flags],
    env: { DOCKER_HOST: dockerHost },
  }
}

/** Starts `conveyor server` as people run it, but for what has to point at the benchmark's world. */
export async function startServer(world: World, place: ServerPlace): Promise<ConveyorServer> {
  const { dataDir, prefix, flags, env } = place
  await mkdir(dataDir, { recursive: true })
  return startConveyor(
    [
      ...['server', '--port', '0', '--host', '127.0.0.1', '--data-dir', dataDir],
      ...['--registry', `${world.registry.host}/${prefix}`, '--git.url', world.git.urlTemplate],
      ...['--github.url', world.github.url, ...flags],
    ],
    { env: { ...env, DOCKER_CONFIG: dataDir, GITHUB_TOKEN, GITHUB_SECRET } },
  )
}
