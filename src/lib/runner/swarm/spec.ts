import type Dockerode from 'dockerode'
import { runEnvironment } from '../environment.ts'
import { labelsOf } from '../labels.ts'
import type { RunInput } from '../runner.ts'
import { SWARM_SECRETS, type SwarmRunnerOptions } from './options.ts'
import { STOP_SECONDS } from './service.ts'

/**
 * The service that runs one build once: a single task that is never restarted. A `ReplicatedJob` service would do the
 * same, but Docker 20.10 lets a job's container run on, and never removes it, when its service is removed
 * (https://github.com/moby/moby/issues/42789); and no engine can stop a job's container without losing its last
 * output.
 */
export function serviceSpec(
  build: RunInput,
  options: SwarmRunnerOptions,
  here: { avoid: string[]; secrets: { ID: string; Spec: { Name: string } }[] },
): Dockerode.ServiceSpec {
  const { image, network, binds = [], environment = {}, constraints = [], secrets = SWARM_SECRETS } = options
  const variables = { ...environment, ...runEnvironment(build) }
  const labels = labelsOf(build)
  return {
    // The same for every attempt at a build, so that there are never two of them.
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
      // As in runner/docker.ts: byte for byte, until the container is removed.
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
