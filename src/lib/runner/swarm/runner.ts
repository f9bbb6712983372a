import type Dockerode from 'dockerode'
import { linesTo } from '../../core/one-line.ts'
import { engineAuthFor } from '../../registry/auth-config.ts'
import type { CredentialStore } from '../../registry/registry.ts'
import type { BuildContainer, ContainerBuild } from '../runner.ts'
import { SwarmApi } from './api.ts'
import { lostTooOften, noImageAnywhere, swarmError } from './errors.ts'
import { removeLeftovers, removeService } from './service.ts'
import { SWARM_SECRETS, type SwarmSecrets, serviceSpec } from './spec.ts'
import { TaskRun } from './task.ts'

export interface SwarmBuilderOptions {
  /** A client of a manager of the Swarm. */
  docker: Dockerode
  /** The builder image. Each node pulls it by itself, so it has to be in a registry that all of them reach. */
  image: string
  /** Logins for pulling it; the Swarm hands them to the node. */
  credentials: CredentialStore
  /** Network of the containers: `host`, or an overlay network; null (default) leaves it to the engine. */
  network?: string | null
  /** Mounts, `SOURCE:TARGET[:ro]`, of the node that a build runs on, such as its engine's socket. A source without `/` is a volume. */
  binds?: string[]
  /** What the image is told beyond the contract. Never a secret: whoever may ask the Swarm can read it. */
  environment?: Record<string, string>
  /** Which nodes may build, `node.labels.builder==true`: https://docs.docker.com/reference/cli/docker/service/create/#constraint */
  constraints?: string[]
  /** Where the image finds secrets of the Swarm, by their names; those that the Swarm does not have are left out. */
  secrets?: SwarmSecrets
  /** How many nodes a build is tried on, when they are lost or lack the image; 3 by default. */
  attempts?: number
  /** How long a build waits for a node that fits, in milliseconds; 5 minutes by default. */
  pendingMs?: number
}

/**
 * Builds in containers of a builder image on the nodes of a Docker Swarm. The Swarm picks the node; a build
 * whose node is lost begins again on another. What a lost node does until it is back, nobody knows: the
 * Swarm ends its container then, and what that has pushed does not count, as only this attempt's end is stored.
 */
export function swarmBuilder(options: SwarmBuilderOptions): BuildContainer {
  const { docker, image, credentials, attempts = 3, pendingMs = 300_000 } = options
  const api = new SwarmApi(docker)

  async function create(build: ContainerBuild, avoid: string[]): Promise<string> {
    const wanted = options.secrets ?? SWARM_SECRETS
    const secrets = (await api.secrets()).filter(({ Spec }) => wanted[Spec.Name] !== undefined)
    const auth = await engineAuthFor(credentials, image)
    return api.create(serviceSpec(build, options, { avoid, secrets }), auth)
  }

  return {
    async run(build, io) {
      const { signal } = io
      const say = linesTo(io.log)
      signal.throwIfAborted()
      const ask = <T>(question: Promise<T>) =>
        question.catch((error) => {
          signal.throwIfAborted()
          throw swarmError(error, 'the Swarm did not take the build')
        })
      await ask(removeLeftovers(api, build.buildId, signal))

      /** Nodes that lack the image, by id. */
      const without = new Map<string, string>()
      for (let attempt = 1; ; attempt++) {
        const serviceId = await ask(create(build, [...without.keys()]))
        const run = new TaskRun(api, { serviceId, build, image, pendingMs, without: [...without.values()] })
        const outcome = await run.toEnd(io).finally(async () => {
          const warning = await removeService(api, serviceId, build.buildId)
          if (warning) await say(`warning: ${warning}`)
        })
        if (outcome.kind === 'succeeded') return
        signal.throwIfAborted()
        if (outcome.kind === 'no image') {
          without.set(outcome.nodeId, outcome.node)
          if (attempt >= attempts) throw noImageAnywhere(image, [...without.values()])
          await say(`node ${outcome.node} does not have the builder image ${image}: trying another node`)
          continue
        }
        if (attempt >= attempts) throw lostTooOften(attempts, outcome.why)
        await say(
          '',
          `${outcome.why}: the build begins again on another node (attempt ${attempt + 1} of ${attempts})`,
        )
      }
    },
  }
}

/**
 * Asks whether builds can run on the Swarm at all, so that a server says so at its start.
 * @throws ConveyorError `invalid` when the engine is no manager of one, `unavailable` when it does not answer
 */
export async function checkSwarm(docker: Dockerode): Promise<void> {
  await new SwarmApi(docker).services('conveyor.build').catch((error) => {
    throw swarmError(error, 'builds cannot run on the Swarm')
  })
}
