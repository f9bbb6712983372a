import type Dockerode from 'dockerode'
import { contractEnvironment } from '../docker.ts'
import type { ContainerBuild } from '../runner.ts'
import type { SwarmBuilderOptions } from './runner.ts'
import { STOP_SECONDS } from './service.ts'

/** Paths in the container by the names of the Swarm's secrets. */
export type SwarmSecrets = Readonly<Record<string, string>>

/** A Swarm has no `data` container on every node: what a builder image finds there are secrets of the Swarm. */
export const SWARM_SECRETS: SwarmSecrets = {
  'conveyor.id_rsa': '/var/run/conveyor/.ssh/id_rsa',
  'conveyor.id_rsa.pub': '/var/run/conveyor/.ssh/id_rsa.pub',
  'conveyor.known_hosts': '/var/run/conveyor/.ssh/known_hosts',
  'conveyor.config.json': '/var/run/conveyor/.docker/config.json',
}

/**
 * The service that runs one build, once: one task that is never restarted. A service of the mode
 * `ReplicatedJob` would do the same, but the engine 20.10 goes on with the container of a job when its service
 * is removed, and keeps it for ever (https://github.com/moby/moby/issues/42789); and on any engine the
 * container of a job cannot be stopped without losing what it wrote last.
 */
export function serviceSpec(
  build: ContainerBuild,
  options: SwarmBuilderOptions,
  here: { avoid: string[]; secrets: { ID: string; Spec: { Name: string } }[] },
): Dockerode.ServiceSpec {
  const { image, network, binds = [], environment = {}, constraints = [], secrets = SWARM_SECRETS } = options
  const variables = { ...environment, ...contractEnvironment(build) }
  const labels = {
    'conveyor.build': build.buildId,
    'conveyor.repository': build.repository,
    'conveyor.sha': build.sha,
  }
  return {
    // The same for each attempt at a build, so that there are never two of them.
    Name: `conveyor-build-${build.buildId}`,
    Labels: labels,
    TaskTemplate: {
      ContainerSpec: {
        Image: image,
        Labels: labels,
        Env: Object.entries(variables).map(([name, value]) => `${name}=${value}`),
        Mounts: binds.map(mount),
        Secrets: here.secrets.map(({ ID, Spec: { Name } }) => ({
          SecretID: ID,
          SecretName: Name,
          File: { Name: secrets[Name] ?? Name, UID: '0', GID: '0', Mode: 0o400 },
        })),
        StopSignal: 'SIGTERM',
        StopGracePeriod: STOP_SECONDS * 1e9,
      },
      RestartPolicy: { Condition: 'none' },
      Placement: { Constraints: [...constraints, ...here.avoid.map((id) => `node.id!=${id}`)] },
      ...(network ? { Networks: [{ Target: network }] } : {}),
      // As in image-builder.ts: byte for byte, until the container is removed.
      LogDriver: { Name: 'local', Options: { 'max-size': '1g', 'max-file': '1', compress: 'false' } },
    },
    Mode: { Replicated: { Replicas: 1 } },
  }
}

/** `SOURCE:TARGET[:ro]` */
function mount(bind: string): Dockerode.MountSettings {
  const [Source = '', Target = '', mode] = bind.split(':')
  return { Type: Source.startsWith('/') ? 'bind' : 'volume', Source, Target, ReadOnly: mode === 'ro' }
}
