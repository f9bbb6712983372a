import type Dockerode from 'dockerode'
import { linesTo } from '../../core/one-line.ts'
import { engineAuthFor } from '../../registry/auth-config.ts'
import { buildLabel, labelled } from '../labels.ts'
import type { RunInput, Runner } from '../runner.ts'
import { SwarmApi } from './api.ts'
import { lostTooOften, noImageAnywhere, swarmError } from './errors.ts'
import { SWARM_SECRETS, type SwarmRunnerOptions } from './options.ts'
import { removeLeftovers, removeService } from './service.ts'
import { serviceSpec } from './spec.ts'
import { TaskRun } from './task.ts'

/**
 * Runs builder images as containers on the nodes of a Docker Swarm. The Swarm picks the node; a build whose node is
 * lost starts over on another one. What a lost node does in the meantime is unknown: the Swarm stops its container
 * once the node is back, and anything it pushed is ignored, as only this attempt's result is stored.
 */
export function swarmRunner(options: SwarmRunnerOptions): Runner {
  const { docker, image, credentials, attempts = 3, pendingMs = 300_000 } = options
  const api = new SwarmApi(docker)

  async function create(build: RunInput, avoid: string[]): Promise<string> {
    const paths = options.secrets ?? SWARM_SECRETS
    const secrets = (await api.secrets()).filter(({ Spec }) => paths[Spec.Name] !== undefined)
    const auth = await engineAuthFor(credentials, image)
    return api.create(serviceSpec(build, options, { avoid, secrets }), auth)
  }

  return {
    async run(build, io) {
      const { signal } = io
      const say = linesTo(io.log)
      signal.throwIfAborted()
      const orSwarmError = <T>(request: Promise<T>) =>
        request.catch((error) => {
          signal.throwIfAborted()
          throw swarmError(error, 'the Swarm did not accept the build')
        })
      await orSwarmError(removeLeftovers(api, build.buildId, signal))

      /** Names of nodes that lack the image, by id. */
      const without = new Map<string, string>()
      for (let attempt = 1; ; attempt++) {
        const serviceId = await orSwarmError(create(build, [...without.keys()]))
        const run = new TaskRun(api, { serviceId, build, image, pendingMs, without: [...without.values()] })
        const outcome = await run.toEnd(io).finally(async () => {
          const warning = await removeService(api, serviceId, build.buildId)
          if (warning) await say(`warning: ${warning}`)
        })
        if (outcome.kind === 'succeeded') return
        signal.throwIfAborted()
        if (outcome.kind === 'no-image') {
          without.set(outcome.nodeId, outcome.node)
          if (attempt >= attempts) throw noImageAnywhere(image, [...without.values()])
          await say(`node ${outcome.node} does not have the builder image ${image}; trying another node`)
          continue
        }
        if (attempt >= attempts) throw lostTooOften(attempts, outcome.why)
        await say(
          '',
          `${outcome.why}; restarting the build on another node (attempt ${attempt + 1} of ${attempts})`,
        )
      }
    },

    async containers(buildId) {
      const what = 'the services of builds could not be listed or removed'
      const orError = <T>(asked: Promise<T>) =>
        asked.catch((error) => {
          throw swarmError(error, what)
        })
      const found = await orError(api.services(buildLabel(buildId)))
      return found.map(({ ID, Spec }) => ({
        ...labelled(Spec.Labels),
        remove: () => orError(api.remove(ID)),
      }))
    },
  }
}

/**
 * Checks that builds can run on the Swarm, so that a misconfigured server fails at startup.
 * @throws ConveyorError `invalid` if the engine is not a Swarm manager, `unavailable` if it does not respond
 */
export async function checkSwarm(docker: Dockerode): Promise<void> {
  await new SwarmApi(docker).services(buildLabel()).catch((error) => {
    throw swarmError(error, 'builds cannot run on the Swarm')
  })
}
