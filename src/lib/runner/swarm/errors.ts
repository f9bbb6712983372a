import { ConveyorError } from '../../core/errors.ts'
import { engineMessage, gone, statusOf } from '../errors.ts'
import type { Task } from './api.ts'

/** What went wrong with a build on a Swarm, for people. */

/** What a question that the Swarm did not answer, or refused, means. */
export function swarmError(error: unknown, what: string): ConveyorError {
  if (error instanceof ConveyorError) return error
  const status = statusOf(error)
  if (status === undefined) return gone(error)
  const message = engineMessage(error).replace(/^rpc error: code = \w+ desc = /, '')
  if (/not a swarm manager/i.test(message)) {
    return new ConveyorError('invalid', `${what}: the Docker engine is not a manager of a Swarm`, {
      cause: error,
      hint: 'Run `docker swarm init` there (or `docker node promote` on a manager), or set DOCKER_HOST to a manager',
    })
  }
  if (status === 409) {
    return new ConveyorError('unavailable', `${what}: another attempt at it is there (${message})`, {
      cause: error,
    })
  }
  // Of what is wrong with the settings, not all is answered with a status that says so.
  const settings = status < 500 || /network .* not found|invalid/i.test(message)
  return new ConveyorError(settings ? 'invalid' : 'unavailable', `${what}: ${message}`, {
    cause: error,
    hint: settings
      ? 'Check the builder image and the options --builder.* and --build.network'
      : 'Check `docker node ls`: more than half of the managers have to be reachable',
  })
}

/** A node could not make a container of what it was told, or has lost it. */
export function rejected(task: Task, node: string, image: string): ConveyorError {
  const why = task.Status.Err || task.Status.Message || 'it does not say why'
  if (/no such container/i.test(why)) return removedMeanwhile()
  return new ConveyorError('invalid', `${node} cannot run the builder image ${image}: ${why}`, {
    hint: 'Check the image (its entrypoint), and that what the options --builder.* mount is there on every node',
  })
}

/** Whether a rejected task is one whose node has no image. */
export function lacksImage(task: Task): boolean {
  return /no such image|pull access denied|manifest unknown|not found: manifest/i.test(task.Status.Err ?? '')
}

/** No node that was tried has the image. */
export function noImageAnywhere(image: string, nodes: string[]): ConveyorError {
  const where = nodes.length === 1 ? `node ${nodes[0]}` : `the nodes ${nodes.join(', ')}`
  return new ConveyorError(
    'invalid',
    `the builder image ${image} is not on ${where}, nor can it be pulled there`,
    {
      hint: 'Push it to a registry that every node can reach, name it by --builder.image (BUILDER_IMAGE), and log in to that registry (docker login)',
    },
  )
}

/** The status of a container that ended with another than 0; null when it did not even start. */
export function exitStatus(task: Task): number | null {
  const told = /non-zero exit \((\d+)\)/.exec(task.Status.Err ?? '')?.[1]
  return told === undefined ? null : Number(told)
}

export function exited(status: number, image: string): ConveyorError {
  return new ConveyorError('build_failed', `the builder image ${image} ended with status ${status}`, {
    hint:
      status === 137
        ? 'That is a process that was killed, mostly for lack of memory: give the nodes more, or make the build use less'
        : 'See the end of its log',
  })
}

export function nowhere(why: string, seconds: number): ConveyorError {
  return new ConveyorError('unavailable', `no node of the Swarm took the build in ${seconds} s: ${why}`, {
    hint: 'Check `docker node ls`, and the constraints that builds are placed by (--builder.constraint)',
  })
}

export function lostTooOften(attempts: number, why: string): ConveyorError {
  const what = attempts === 1 ? why : `the build was lost with its node ${attempts} times; at last ${why}`
  return new ConveyorError('unavailable', what, { hint: 'Check `docker node ls`' })
}

export function removedMeanwhile(): ConveyorError {
  return new ConveyorError('unavailable', "the build's container was removed while it ran", {
    hint: 'Another attempt at the build does that, or somebody with access to the Swarm',
  })
}

/** What an earlier attempt left behind is still there. */
export function doesNotEnd(nodes: string[]): ConveyorError {
  return new ConveyorError(
    'unavailable',
    `the container of an earlier attempt does not end on ${nodes.join(', ') || 'the Swarm'}`,
    { hint: 'Check the Docker engine there' },
  )
}
