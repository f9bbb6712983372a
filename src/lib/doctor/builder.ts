import type Dockerode from 'dockerode'
import type { Builder } from '../builder/builder.ts'
import type { BuildkitAddress } from '../buildkit/address.ts'
import type { Endpoint } from '../buildkit/endpoint.ts'
import { engineEndpoint } from '../buildkit/engine-endpoint.ts'
import type { Config } from '../config/config.ts'
import type { ImageBuilderConfig } from '../config/rules.ts'
import { engineDown, engineMessage, statusOf } from '../docker/errors.ts'
import { parseReference } from '../registry/image-name.ts'
import type { Registry } from '../registry/registry.ts'
import { noImage } from '../runner/errors.ts'
import { swarmError } from '../runner/swarm/errors.ts'
import { isAtLeast } from '../util/versions.ts'
import { buildkit } from './buildkit.ts'
import { broken, type Check, type Finding, ok, warning } from './check.ts'

/** The oldest engine whose BuildKit is supported. */
const OLDEST = '20.10'

/** Clients for the checks of a builder. */
export interface BuilderClients {
  docker: Dockerode
  /** Opens the engine's builder. */
  builder: () => Promise<Builder>
  /** Opens the endpoint of a buildkitd. */
  endpoint: (name: string, address: BuildkitAddress, tls: string | null) => Promise<Endpoint>
  registry: Registry
}

/** Checks what builds: the engine, each buildkitd, or whatever runs a builder image. */
export function builderChecks(config: Config, clients: BuilderClients): Check[] {
  const { docker, builder, registry } = clients
  const kind = config.builder
  if (kind.kind === 'engine') {
    return [{ part: 'engine', run: (signal) => engine(config, docker, builder, signal) }]
  }
  if (kind.kind === 'buildkit') {
    return [...kind.addresses].map(([name, address]) => ({
      part: 'buildkitd',
      async run(signal) {
        const finding = await buildkit(await clients.endpoint(name, address, kind.tls), config, signal)
        return { ...finding, found: `${name}, ${finding.found}` }
      },
    }))
  }
  const { image, data } = kind
  const onSwarm = kind.kind === 'swarm'
  return [
    onSwarm
      ? { part: 'swarm', run: () => swarm(docker, kind) }
      : { part: 'engine', run: async () => ok(await engineVersion(docker)) },
    { part: 'builder image', run: (signal) => builderImage(docker, registry, image, onSwarm, signal) },
    ...(onSwarm || data === null ? [] : [{ part: 'data container', run: () => dataContainer(docker, data) }]),
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
  const description = await (await builder()).describe()
  const finding = await buildkit(engineEndpoint(docker), config, signal)
  return { ...finding, found: `${version}, ${finding.found}; ${description}` }
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
  const placed = constraints.length > 0 ? `, not counting the constraints ${constraints.join(', ')}` : ''
  const found = `${ready.length} of ${nodes.length} nodes can run builds${placed}`
  if (ready.length === 0)
    return broken(found, 'See `docker node ls`: at least one node must be ready and active')
  return ready.length < nodes.length ? warning(found, 'See `docker node ls`') : ok(found)
}

/** The builder image, in the engine or in the registry that the first build pulls it from. */
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
  const { host, path, identifier } = parseReference(image)
  const found = await registry.head(`${host}/${path}`, identifier, signal)
  if (found) return ok(`${image}, in its registry`)
  if (!local) throw noImage(image, 'neither in the engine nor in its registry', undefined)
  return warning(`${image} is only in this engine`, 'Push it to a registry that every node can reach')
}

async function dataContainer(docker: Dockerode, name: string): Promise<Finding> {
  try {
    const { Mounts } = await docker.getContainer(name).inspect()
    return ok(`${name}, with ${Mounts.length} ${Mounts.length === 1 ? 'volume' : 'volumes'}`)
  } catch (error) {
    if (statusOf(error) === undefined) engineDown(error)
    return broken(
      `${name}: ${engineMessage(error)}`,
      'Create it with `conveyor bootstrap`: it holds the SSH key and registry logins of the builder image. Or set --builder.data none',
    )
  }
}
