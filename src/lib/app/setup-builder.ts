import { readFile } from 'node:fs/promises'
import { join } from 'node:path'
import type Dockerode from 'dockerode'
import type { Builder } from '../builder/builder.ts'
import type { BuildkitAddress } from '../buildkit/address.ts'
import type { BuildkitTls } from '../buildkit/buildkitd-endpoint.ts'
import type { Endpoint } from '../buildkit/endpoint.ts'
import type { Config } from '../config/config.ts'
import { ConveyorError } from '../core/errors.ts'
import { engineDown } from '../docker/errors.ts'
import { parseRegistryFlag } from '../registry/naming.ts'
import type { CredentialStore, Registry } from '../registry/registry.ts'

/**
 * Opens the builder of a Config, for builds that run in this process.
 * @param registries for what the engine does not report about images in a registry
 * @throws ConveyorError `invalid` if a certificate cannot be read
 */
export async function openBuilder(
  { builder, packing, registry }: Config,
  docker: Dockerode,
  credentials: CredentialStore,
  registries: Registry | undefined,
  log: (line: string) => void,
): Promise<Builder> {
  const { host, insecure } = parseRegistryFlag(registry)
  const registryOption = registries ? { registry: registries } : {}
  const options = { ...packing, ...registryOption, credentials, insecureHosts: insecure ? [host] : [], log }
  if (builder.kind === 'buildkit') {
    const [{ farmBuilder }, endpoints] = await Promise.all([
      import('../builder/farm.ts'),
      Promise.all([...builder.addresses].map(([name, address]) => openEndpoint(name, address, builder.tls))),
    ])
    return farmBuilder({ ...options, endpoints, maxBuilds: builder.builds })
  }
  const { dockerBuilder } = await import('../builder/engine/docker-builder.ts')
  return dockerBuilder({ ...options, docker })
}

/**
 * Resolves if the builder responds: the engine, or at least one buildkitd.
 * @throws ConveyorError `unavailable`
 */
export async function builderAnswers({ builder }: Config, docker: Dockerode): Promise<void> {
  if (builder.kind !== 'buildkit') {
    await docker.ping().catch(engineDown)
    return
  }
  const { listWorkers } = await import('../buildkit/workers.ts')
  const answers = [...builder.addresses].map(async ([name, address]) =>
    listWorkers(await openEndpoint(name, address, builder.tls)),
  )
  await Promise.any(answers).catch((thrown: AggregateError) => {
    throw thrown.errors[0]
  })
}

/**
 * Folder of the engine's images and caches; null if the engine is not on this machine.
 * @throws what the engine answers
 */
export async function engineRoot({ builder }: Config, docker: Dockerode): Promise<string | null> {
  const { socketPath } = docker.modem as { socketPath?: string }
  if (builder.kind === 'buildkit' || !socketPath) return null
  const { DockerRootDir: root } = (await docker.info()) as { DockerRootDir?: string }
  return root ?? null
}

/** @param tls folder of certificates. @throws ConveyorError `invalid` if one cannot be read */
export async function openEndpoint(
  name: string,
  address: BuildkitAddress,
  tls: string | null,
): Promise<Endpoint> {
  const { buildkitdEndpoint } = await import('../buildkit/buildkitd-endpoint.ts')
  return buildkitdEndpoint(name, address, tls === null ? undefined : await readCertificates(tls))
}

async function readCertificates(dir: string): Promise<BuildkitTls> {
  const read = (name: string) =>
    readFile(join(dir, name)).catch((error: Error) => {
      throw new ConveyorError('invalid', `--buildkit.tls (BUILDKIT_TLS): ${error.message}`, {
        cause: error,
        hint: 'The directory must contain ca.pem, cert.pem, and key.pem, as for `buildctl --tlsdir`',
      })
    })
  const [ca, cert, key] = await Promise.all([read('ca.pem'), read('cert.pem'), read('key.pem')])
  return { ca, cert, key }
}
