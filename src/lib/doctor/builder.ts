import type Dockerode from 'dockerode'
import type { Builder } from '../builder/builder.ts'
import type { BuildkitAddress } from '../buildkit/address.ts'
import type { Endpoint } from '../buildkit/endpoint.ts'
import { engineEndpoint } from '../buildkit/engine-endpoint.ts'
import type { Config } from '../config/config.ts'
import type { ImageBuilderConfig } from '../config/rules.ts'
import { engineDown } from '../docker/errors.ts'
import { splitReference } from '../registry/image-name.ts'
import type { Registry } from '../registry/registry.ts'
import { engineMessage, noImage, statusOf } from '../runner/errors.ts'
import { swarmError } from '../runner/swarm/errors.ts'
import { isAtLeast } from '../util/versions.ts'
import { buildkit } from './buildkit.ts'
import { broken, type Check, type Finding, ok, warning } from './check.ts'

/** The oldest engine with a BuildKit. */
const OLDEST = '20.10'

/** Whom the checks of a builder ask. */
export interface BuilderClients {
  docker: Dockerode
  /** Of the engine; made when it is needed. */
  builder: () => Promise<Builder>
  /** Of a buildkitd. */
  endpoint: (name: string, address: BuildkitAddress, tls: string | null) => Promise<Endpoint>
  registry: Registry
}

/** What builds: the engine, each buildkitd, or what runs containers of a builder image. */
export function builderChecks(config: Config, clients: BuilderClients): Check[] {
  const { docker, builder, registry } = clients
  const kind = config.builder
  if (kind.kind === 'engine') {
    return [{ part: 'engine', ask: (signal) => engine(config, docker, builder, signal) }]
  }
  if (kind.kind === 'buildkit') {
    return [...kind.addresses].map(([name, address]) => ({
      part: 'buildkitd',
      async ask(signal) {
        const finding = await buildkit(await clients.endpoint(name, address, kind.tls), config, signal)
        return { ...finding, found: `${name}, ${finding.found}` }
      },
    }))
  }
  const { image, data } = kind
  const onSwarm = kind.kind === 'swarm'
  return [
    onSwarm
      ? { part: 'swarm', ask: () => swarm(docker, kind) }
      : { part: 'engine', ask: async () => ok(await engineVersion(docker)) },
    { part: 'builder image', ask: (signal) => builderImage(docker, registry, image, onSwarm, signal) },
    ...(onSwarm || data === null ? [] : [{ part: 'data container', ask: () => dataContainer(docker, data) }]),
  ]
}

async function engine(
  config: Config,
  docker: Dockerode,
  builder: () => Promise<Builder>,
  signal: AbortSignal,
): Promise<Finding> {
  const version = await engineVersion(docker)
  if (!isAtLeast(OLDEST, version)) return broken(`${version} is too old`, `Install Docker ${OLDEST} or newer`)
  const way = await (await builder()).describe()
  const finding = await buildkit(engineEndpoint(docker), config, signal)
  return { ...finding, found: `${version}, ${finding.found}; ${way}` }
}

async function engineVersion(docker: Dockerode): Promise<string> {
  const { Version } = await docker.version().catch(engineDown)
  return `Docker ${Version}`
}

async function swarm(docker: Dockerode, { constraints }: ImageBuilderConfig): Promise<Finding> {
  const nodes = await docker.listNodes().catch((error) => {
    throw swarmError(error, 'builds cannot run on the Swarm')
  })
  const ready = nodes.filter(
    ({ Status, Spec }) => Status?.State === 'ready' && Spec?.Availability === 'active',
  )
  const placed = constraints.length > 0 ? `, before the constraints ${constraints.join(', ')}` : ''
  const found = `${ready.length} of ${nodes.length} nodes take builds${placed}`
  if (ready.length === 0) return broken(found, 'See `docker node ls`: a node has to be ready and active')
  return ready.length < nodes.length ? warning(found, 'See `docker node ls`') : ok(found)
}

/** In the engine, or where it is pulled from at the first build. */
async function builderImage(
  docker: Dockerode,
  registry: Registry,
  image: string,
  onSwarm: boolean,
  signal: AbortSignal,
): Promise<Finding> {
  const local = await docker
    .getImage(image)
    .inspect()
    .catch((error) => (statusOf(error) === 404 ? null : engineDown(error)))
  if (local && !onSwarm) return ok(`${image}, in the engine`)
  const { host, path, tag, digest } = splitReference(image)
  const found = await registry.head(`${host}/${path}`, digest ?? tag ?? 'latest', signal)
  if (found) return ok(`${image}, in its registry`)
  if (!local) throw noImage(image, 'neither in the engine nor in its registry', undefined)
  return warning(`${image} is in this engine only`, 'Push it to a registry that every node can reach')
}

async function dataContainer(docker: Dockerode, name: string): Promise<Finding> {
  try {
    const { Mounts } = await docker.getContainer(name).inspect()
    return ok(`${name}, with ${Mounts.length} ${Mounts.length === 1 ? 'volume' : 'volumes'}`)
  } catch (error) {
    if (statusOf(error) === undefined) engineDown(error)
    return broken(
      `${name}: ${engineMessage(error)}`,
      'Make it with `conveyor bootstrap`: the builder image finds its ssh key and logins there; or give --builder.data none',
    )
  }
}
