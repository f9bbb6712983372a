import { setTimeout as delay } from 'node:timers/promises'
import type Dockerode from 'dockerode'
import type { ConveyorError } from '../../core/errors.ts'
import { buildLabel, labelled } from '../labels.ts'
import type { SwarmApi, SwarmNode, Task } from './api.ts'
import { doesNotEnd, swarmError } from './errors.ts'

/** How long a container has between SIGTERM and SIGKILL. */
export const STOP_SECONDS = 10
/** How long to wait, beyond that, for a container to stop. */
const CLEAN_UP_MS = 60_000
const POLL_MS = 200
/** Matches no node. */
const NOWHERE = 'node.id==none'

/** Whether a task has ended for good. */
export function hasEnded({ Status: { State } }: Task): boolean {
  return ['complete', 'shutdown', 'failed', 'rejected', 'remove', 'orphaned'].includes(State)
}

/** Whether a node is down or removed: it takes no commands, and the state of what runs there is unknown. */
export function isLost(node: SwarmNode | null): boolean {
  return node === null || node.Status.State === 'down'
}

/** Removes the services of earlier attempts at a build, and waits until their containers have stopped. */
export async function removeLeftovers(api: SwarmApi, buildId: string, signal: AbortSignal): Promise<void> {
  const label = buildLabel(buildId)
  for (const { ID } of await api.services(label)) await api.remove(ID)
  const left = await tasksGone(api, label, signal)
  if (left.length > 0) throw doesNotEnd(left)
}

/**
 * Stops the container of a service but keeps it, so that its last output can be read: the task is replaced by one
 * that fits no node. Resolves once the task has ended, or at once if its node is lost.
 * @returns the task's latest state
 */
export async function stopTask(api: SwarmApi, serviceId: string, task: Task): Promise<Task> {
  const service = await api.service(serviceId)
  if (service === null) return task
  const { TaskTemplate, ...spec } = service.Spec
  const template = { ...TaskTemplate, Placement: { Constraints: [NOWHERE] } } as Dockerode.TaskSpec
  await api.update(service, { ...spec, TaskTemplate: template })

  const label = buildLabel(labelled(service.Spec.Labels).buildId)
  const deadline = performance.now() + STOP_SECONDS * 1000 + CLEAN_UP_MS
  let last = task
  while (performance.now() < deadline) {
    const now = (await api.tasks(label)).find(({ ID }) => ID === task.ID)
    if (!now) break
    last = now
    if (hasEnded(now) || isLost(now.NodeID ? await api.node(now.NodeID) : null)) break
    await delay(POLL_MS)
  }
  return last
}

/**
 * Removes a service, and waits until the Swarm has stopped its container. Containers on a lost node are stopped by
 * the Swarm when the node comes back.
 * @returns a warning for the log if that failed
 */
export async function removeService(
  api: SwarmApi,
  serviceId: string,
  buildId: string,
): Promise<string | null> {
  try {
    await api.remove(serviceId)
    const left = await tasksGone(api, buildLabel(buildId), new AbortController().signal)
    return left.length > 0 ? `the build's container does not stop on ${left.join(', ')}` : null
  } catch (error) {
    const { message } = swarmError(error, 'the request to the Swarm failed') as ConveyorError
    return `the build's service could not be removed: ${message}`
  }
}

/**
 * Waits until no reachable node has a task with this label.
 * @returns names of the nodes that still do when time is up
 */
async function tasksGone(api: SwarmApi, label: string, signal: AbortSignal): Promise<string[]> {
  const deadline = performance.now() + STOP_SECONDS * 1000 + CLEAN_UP_MS
  for (;;) {
    const nodes = new Set((await api.tasks(label)).map(({ NodeID }) => NodeID))
    const names: string[] = []
    for (const id of nodes) {
      const node = id ? await api.node(id) : null
      if (node && !isLost(node)) names.push(node.Description.Hostname)
    }
    if (names.length === 0 || performance.now() > deadline) return names
    await delay(POLL_MS, undefined, { signal })
  }
}
