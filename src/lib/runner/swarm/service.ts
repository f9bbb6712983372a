import { setTimeout as delay } from 'node:timers/promises'
import type Dockerode from 'dockerode'
import type { ConveyorError } from '../../core/errors.ts'
import type { Node, SwarmApi, Task } from './api.ts'
import { doesNotEnd, swarmError } from './errors.ts'

/** How long a container has between SIGTERM and SIGKILL. */
export const STOP_SECONDS = 10
/** What takes longer than this to stop, beyond that, is not waited for. */
const CLEAN_UP_MS = 60_000
const POLL_MS = 200
/** No node has this id, so nothing is placed by it. */
const NOWHERE = 'node.id==none'

/** A label that all services and containers of a build have, on whatever attempt. */
export function buildLabel(buildId: string): string {
  return `conveyor.build=${buildId}`
}

/** Whether a task runs no more, and never will again. */
export function hasEnded({ Status: { State } }: Task): boolean {
  return ['complete', 'shutdown', 'failed', 'rejected', 'remove', 'orphaned'].includes(State)
}

/** A node that is down cannot be told anything, and nothing that runs there is known of. */
export function isLost(node: Node | null): boolean {
  return node === null || node.Status.State === 'down'
}

/** Removes the services of earlier attempts at a build, and waits until their containers have ended. */
export async function removeLeftovers(api: SwarmApi, buildId: string, signal: AbortSignal): Promise<void> {
  const label = buildLabel(buildId)
  for (const { ID } of await api.services(label)) await api.remove(ID)
  const left = await tasksGone(api, label, signal)
  if (left.length > 0) throw doesNotEnd(left)
}

/**
 * Ends the container of a service, but keeps it, so that its last words can be read: its task gets a
 * successor that no node fits. Resolves when it has ended; when its node is lost, at once.
 * @returns the task as it is then
 */
export async function stopTask(api: SwarmApi, serviceId: string, task: Task): Promise<Task> {
  const service = await api.service(serviceId)
  if (service === null) return task
  const { TaskTemplate, ...spec } = service.Spec
  const template = { ...TaskTemplate, Placement: { Constraints: [NOWHERE] } } as Dockerode.TaskSpec
  await api.update(service, { ...spec, TaskTemplate: template })

  const label = buildLabel(service.Spec.Labels?.['conveyor.build'] ?? '')
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
 * Removes a service, and waits until the Swarm has ended its container. What runs on a lost node is ended
 * by the Swarm when the node comes back.
 * @returns a warning for the log, when that did not go well
 */
export async function removeService(
  api: SwarmApi,
  serviceId: string,
  buildId: string,
): Promise<string | null> {
  try {
    await api.remove(serviceId)
    const left = await tasksGone(api, buildLabel(buildId), new AbortController().signal)
    return left.length > 0 ? `the build's container does not end on ${left.join(', ')}` : null
  } catch (error) {
    const { message } = swarmError(error, 'the Swarm refused') as ConveyorError
    return `the build's service could not be removed: ${message}`
  }
}

/**
 * Waits until no task with this label is left on any node that can be reached.
 * @returns names of nodes where one is left all the same
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
