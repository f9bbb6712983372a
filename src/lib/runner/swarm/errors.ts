import { ConveyorError } from '../../core/errors.ts'
import { engineMessage, statusOf } from '../../docker/errors.ts'
import { gone } from '../errors.ts'
import type { Task } from './api.ts'

/** Errors of a build on a Swarm. */

/** A request to the Swarm failed or was refused. @param what failed, as the beginning of the message */
export function swarmError(error: unknown, what: string): ConveyorError {
  if (error instanceof ConveyorError) return error
  const status = statusOf(error)
  if (status === undefined) return gone(error)
  const message = engineMessage(error).replace(/^rpc error: code = \w+ desc = /, '')
  if (/not a swarm manager/i.test(message)) {
    return new ConveyorError('invalid', `${what}: the Docker engine is not a Swarm manager`, {
      cause: error,
      hint: 'Run `docker swarm init` there (or `docker node promote` on a manager), or set DOCKER_HOST to a manager',
    })
  }
  if (status === 409) {
    return new ConveyorError(
      'unavailable',
      `${what}: another attempt at this build is still running (${message})`,
      {
        cause: error,
      },
    )
  }
  // The status does not always tell that the settings are invalid.
  const settings = status < 500 || /network .* not found|invalid/i.test(message)
  return new ConveyorError(settings ? 'invalid' : 'unavailable', `${what}: ${message}`, {
    cause: error,
    hint: settings
      ? 'Check the builder image and the options --builder.* and --build.network'
      : 'Check `docker node ls`: more than half of the managers must be reachable',
  })
}

/** A node could not create the container, or has lost it. */
export function rejected(task: Task, node: string, image: string): ConveyorError {
  const why = task.Status.Err || task.Status.Message || 'no reason given'
  if (/no such container/i.test(why)) return removedMeanwhile()
  return new ConveyorError('invalid', `${node} cannot run the builder image ${image}: ${why}`, {
    hint: "Check the image's entrypoint, and that everything mounted by the options --builder.* exists on every node",
  })
}

/** Whether a task was rejected because its node lacks the image. */
export function lacksImage(task: Task): boolean {
  return /no such image|pull access denied|manifest unknown|not found: manifest/i.test(task.Status.Err ?? '')
}

/** None of the nodes tried has the image. */
export function noImageAnywhere(image: string, nodes: string[]): ConveyorError {
  const where = nodes.length === 1 ? `node ${nodes[0]}` : `the nodes ${nodes.join(', ')}`
  return new ConveyorError(
    'invalid',
    `the builder image ${image} is not on ${where} and cannot be pulled there`,
    {
      hint: 'Push it to a registry that every node can reach, set it with --builder.image (BUILDER_IMAGE), and log in to that registry (docker login)',
    },
  )
}

/** The status of a container that exited with a status other than 0; null if it did not start. */
export function exitStatus(task: Task): number | null {
  const exitCode = /non-zero exit \((\d+)\)/.exec(task.Status.Err ?? '')?.[1]
  return exitCode === undefined ? null : Number(exitCode)
}

export function exited(status: number, image: string): ConveyorError {
  return new ConveyorError('build_failed', `the builder image ${image} exited with status ${status}`, {
    hint:
      status === 137
        ? 'The process was killed, most likely because it ran out of memory: give the nodes more memory, or reduce what the build needs'
        : 'See the end of the build log',
  })
}

export function nowhere(why: string, seconds: number): ConveyorError {
  return new ConveyorError('unavailable', `no Swarm node accepted the build within ${seconds} s: ${why}`, {
    hint: 'Check `docker node ls` and the placement constraints (--builder.constraint)',
  })
}

export function lostTooOften(attempts: number, why: string): ConveyorError {
  const what = attempts === 1 ? why : `the build lost its node ${attempts} times; most recently, ${why}`
  return new ConveyorError('unavailable', what, { hint: 'Check `docker node ls`' })
}

export function removedMeanwhile(): ConveyorError {
  return new ConveyorError('unavailable', "the build's container was removed while it was running", {
    hint: 'Another attempt at the build, or someone with access to the Swarm, removed it',
  })
}

/** The container of an earlier attempt is still running. */
export function doesNotEnd(nodes: string[]): ConveyorError {
  return new ConveyorError(
    'unavailable',
    `the container of an earlier attempt does not stop on ${nodes.join(', ') || 'the Swarm'}`,
    { hint: 'Check the Docker engine there' },
  )
}
